"""Reads and writes the items of all collections, system collections included. Endpoints and other services call these functions."""

from directus_tx.compile.plan import Item
from directus_tx.items.export import write_csv
from directus_tx.items.meta import chosen_meta
from directus_tx.items.read import Cursors, LongList, Result, keys_of, long_list, read_back, read_items
from directus_tx.items.write import Writer, create_items, delete_items, in_transaction, revert_item, update_items

__all__ = [
    "Cursors",
    "Item",
    "LongList",
    "Result",
    "Writer",
    "chosen_meta",
    "create_items",
    "delete_items",
    "in_transaction",
    "keys_of",
    "long_list",
    "read_back",
    "read_items",
    "revert_item",
    "update_items",
    "write_csv",
]
