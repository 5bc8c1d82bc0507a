// Uploads a file with tus-js-client. The argument is JSON: file, and options of tus.Upload. Each event is a line of JSON.
"use strict";

const fs = require("fs");
const tus = require("tus-js-client");

const {file, ...options} = JSON.parse(process.argv[2]);
const tell = (event) => process.stdout.write(JSON.stringify(event) + "\n");

const upload = new tus.Upload(fs.createReadStream(file), {
    ...options,
    retryDelays: Array(100).fill(200),
    onUploadUrlAvailable: () => tell({url: upload.url}),
    onError: (error) => tell({error: String(error), status: error.originalResponse && error.originalResponse.getStatus()}),
    onSuccess: ({lastResponse}) => tell({file: lastResponse.getHeader("X-Directus-File"), url: upload.url}),
});
upload.start();
