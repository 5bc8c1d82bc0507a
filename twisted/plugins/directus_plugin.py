"""Makes `twistd directus` known to twistd."""

from twisted.application.service import ServiceMaker

directus = ServiceMaker(
    "directus",
    "directus_tx.tap",
    "A server for the Directus 8 API on PostgreSQL.",
    "directus",
)
