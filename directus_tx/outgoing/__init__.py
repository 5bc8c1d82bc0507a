"""HTTP requests that the server makes itself: to webhooks, to addresses that users name, to providers of single sign-on."""
