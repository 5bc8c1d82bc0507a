"""The settings of files and of where they are stored."""

from attrs import frozen

from directus_tx.config.values import checked_setting, setting


@frozen
class FileSettings:
    """The section [files]: files that clients upload."""

    max_size: int = setting(
        2 * 2**30,
        "Maximum size of an uploaded file, in bytes. Uploads by multipart form are not limited by server.max_body_size and body_timeout:"
        " their bytes go to the storage as they arrive.",
    )
    max_uploads: int = setting(
        200,
        "Maximum number of files that are received at the same time. A project may have four fifths of them, and a caller four fifths of"
        " those of its project. Further ones are answered with 503.",
    )
    upload_lifetime: float = setting(
        86400.0, "Seconds for which an unfinished upload by tus can be continued after its last bytes. Then it is removed."
    )
    max_unfinished: int = setting(
        1000,
        "Maximum number of unfinished uploads by tus of a user of a project, and of all callers who are not signed in together.",
    )
    prune_interval: float = setting(600.0, "Seconds between two runs that remove expired uploads.")
    import_timeout: float = setting(
        60.0, "Maximum time in which a file that is added by its URL must arrive, in seconds. The limits of [outgoing] also hold."
    )
    thumbnail_processes: int = checked_setting(
        2,
        "Number of processes that make thumbnails, which are started when they are first needed. The processes of server.processes share"
        " them, and have at least one each.",
        largest=64,
    )
    thumbnail_memory: int = setting(
        2**30,
        "Maximum memory of a process that makes thumbnails, in bytes. A picture takes up to about 8 bytes for each pixel, and the process"
        " itself about 30 MiB.",
    )
    thumbnail_seconds: float = setting(
        10.0, "Maximum processor time in which a thumbnail must be made, in seconds. Then the process that makes it is ended."
    )
    max_thumbnails: int = setting(
        64,
        "Maximum number of thumbnails that are being made or wait for that. A project may have four fifths of them, and a caller four"
        " fifths of those of its project. Further ones are answered with 503.",
    )
    thumbnail_timeout: float = setting(30.0, "Maximum time that a request waits for a thumbnail to be made, in seconds.")
    thumbnail_max_age: int = setting(
        86400, "Seconds for which browsers and caches may use a thumbnail without asking whether the file has changed."
    )
    max_picture_size: int = setting(128 * 2**20, "Maximum size of the files of which thumbnails are made, in bytes.")
    max_pixels: int = setting(
        50_000_000, "Maximum number of pixels of the pictures of which thumbnails are made. No more are ever decoded."
    )
    max_thumbnail_side: int = setting(4096, "Maximum width and height of thumbnails, in pixels.")
    small_cache_size: int = setting(
        16 * 2**20,
        "Memory of each process for the small contents and thumbnails, of up to 64 KiB, that are read most, in bytes. 0: they are read"
        " from the storage each time.",
    )
    max_share_seconds: int = setting(
        7 * 86400, "Maximum time for which POST /files/:id/share makes an address at which anybody can read the file, in seconds."
    )
    presigned_seconds: int = setting(3600, "Time in which a browser must begin to send a file to the storage itself, in seconds.")
    max_presigned: int = setting(100, "Maximum number of such files of a user that have not been completed.")
    redirect_size: int = setting(
        0,
        "Size in bytes from which a file is not sent by the server: the answer redirects to an address of the storage, if the storage"
        " offers that (s3). 0: the server sends all files.",
    )
    redirect_seconds: int = setting(300, "Time for which such an address can be used, in seconds.")


@frozen
class StorageSettings:
    """The section [storage]: where the files of projects are stored whose project file does not say that."""

    adapter: str = setting(
        "local",
        "Kind of storage. local: on a disk; s3: in a bucket of Amazon S3, or of another server that has its protocol. Plugins can add"
        " others.",
    )
    root: str = setting(
        "",
        "Directory (local), or beginning of the keys of objects (s3), with a part for each project. Empty: the directory storage of"
        " data_dir, or nothing.",
    )
    quota: int = setting(
        0,
        "Maximum size of all files of a project together, unfinished uploads by tus included, in bytes. Files that would exceed it are"
        " refused. 0: no limit.",
    )
    bucket: str = setting("", "Bucket (s3).")
    region: str = setting("", "Region of the bucket (s3). Empty: us-east-1.")
    endpoint: str = setting("", "URL of the server (s3), for example https://s3.example.com. Empty: Amazon.")
    addressing: str = setting(
        "",
        "Place of the bucket in URLs (s3). path: in the path; virtual: in the name of the host. Empty: in the name of the host of Amazon,"
        " in the path of other servers.",
        choices=("", "path", "virtual"),
    )
    key: str = setting(
        "", "Access key (s3). Empty: that of the environment variable AWS_ACCESS_KEY_ID, or of the machine.", secret=True
    )
    secret: str = setting("", "Secret access key (s3).", secret=True)
    ca_file: str = setting(
        "",
        "File of certificate authorities that are trusted beside those of the system, in PEM format, for connections to endpoint.",
    )
