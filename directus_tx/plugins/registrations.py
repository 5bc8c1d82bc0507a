"""The hooks with which plugins add to the server. They are called once, when the server starts, and are plain functions.

What is wrong with a registration (its type, a name that is taken, an exception) is reported with the name of the plugin. *server* is a
`directus_tx.registered.Server`.
"""

from typing import Any

import pluggy

from directus_tx.plugins.hookspecs import PROJECT

hookspec = pluggy.HookspecMarker(PROJECT)


@hookspec
def register_settings() -> Any:
    """Returns an attrs class whose attributes are made with `setting`: the settings of the plugin, in the section [plugins.NAME] of the
    configuration and in environment variables that begin with DIRECTUS_PLUGINS_NAME."""


@hookspec
def configure(server: Any) -> Any:
    """Called before the other registering hooks, with the `Server`, which holds the settings of the plugin. Returns nothing. Raise
    ValueError if they cannot be used together."""


@hookspec
def register_routes(server: Any) -> Any:
    """Returns routes: a `Routes`, or a list of them. The path "/hello" is served at /custom/NAME/hello, and "/<project>/hello" at
    /:project/custom/NAME/hello, where NAME is the name of the plugin."""


@hookspec
def register_extensions(server: Any) -> Any:
    """Returns a directory with extensions of the admin app, in the directories interfaces, layouts and modules, or a list of such
    directories."""


@hookspec
def register_storages(server: Any) -> Any:
    """Returns kinds of storages: a dict of `StorageAdapter` by the name with which storage.adapter names it."""


@hookspec
def register_authentication_drivers(server: Any) -> Any:
    """Returns kinds of providers that users sign in with: a dict of `AuthenticationDriver` by the name with which the setting `driver` of a
    provider names it."""


@hookspec
def register_mail_templates(server: Any) -> Any:
    """Returns a directory with templates of mails. They replace those of the server, and are replaced by those of a project."""


@hookspec
def register_outbox_kinds(server: Any) -> Any:
    """Returns what delivers messages of the outbox: a list of objects with `name`, `time_limit` and `deliver` (`Kind`)."""


@hookspec
def register_services(server: Any) -> Any:
    """Returns services of Twisted (IService), a list of them. They are started when the server is ready, and stopped with it."""


@hookspec
def register_field_types(server: Any) -> Any:
    """Returns types of fields: a dict of `FieldType` by name."""


@hookspec
def register_operators(server: Any) -> Any:
    """Returns filter operators: a dict of `FilterOperator` by name."""


@hookspec
def register_aggregates(server: Any) -> Any:
    """Returns aggregate functions: a dict of `AggregateFunction` by name."""


@hookspec
def register_migrations(server: Any) -> Any:
    """Returns a directory with the migrations of the plugin's own tables: numbered files like 0001_name.sql, which are run in each project
    in which the plugin is enabled."""


@hookspec
def register_commands() -> Any:
    """Returns commands that `directus` has: a list of click commands and groups."""
