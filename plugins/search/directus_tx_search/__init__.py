"""Keeps a search engine, Meilisearch, in step with the items of collections, and finds items with it."""

from directus_tx_search.plugin import Search

plugin = Search()
