"""The schemas of the resources (RFC 7643), the resource types, and the documents that describe them to clients."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen

CORE = "urn:ietf:params:scim:schemas:core:2.0"
USER = f"{CORE}:User"
GROUP = f"{CORE}:Group"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
LIST = "urn:ietf:params:scim:api:messages:2.0:ListResponse"

READ_WRITE, READ_ONLY, WRITE_ONLY, IMMUTABLE = "readWrite", "readOnly", "writeOnly", "immutable"


@frozen
class Attribute:
    """An attribute of a schema, as RFC 7643 describes it in section 7. `stored`: its value is no field of the user; the server
    keeps it as the client has sent it, and it cannot be used in filters."""

    name: str
    type: str = "string"
    description: str = ""
    parts: "tuple[Attribute, ...]" = ()
    several: bool = False
    required: bool = False
    mutability: str = READ_WRITE
    returned: str = "default"
    uniqueness: str = "none"
    exact: bool = False
    examples: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    stored: bool = False

    def part(self, name: str) -> "Attribute | None":
        """Returns a sub-attribute, whose name is compared without case."""
        return next((each for each in self.parts if each.name.lower() == name.lower()), None)

    @property
    def document(self) -> dict[str, Any]:
        """The description of the attribute in a schema."""
        found: dict[str, Any] = {
            "name": self.name,
            "type": self.type,
            "multiValued": self.several,
            "description": self.description or f"{self.name} of the resource.",
            "required": self.required,
            "mutability": self.mutability,
            "returned": self.returned,
        }
        if self.type in ("string", "reference"):
            found |= {"caseExact": self.exact, "uniqueness": self.uniqueness}
        if self.examples:
            found["canonicalValues"] = list(self.examples)
        if self.references:
            found["referenceTypes"] = list(self.references)
        if self.parts:
            found["subAttributes"] = [each.document for each in self.parts]
        return found


@frozen
class Schema:
    """A schema: its URN, name and attributes."""

    id: str
    name: str
    description: str
    attributes: tuple[Attribute, ...]

    def attribute(self, name: str) -> Attribute | None:
        """Returns an attribute, whose name is compared without case."""
        return next((each for each in self.attributes if each.name.lower() == name.lower()), None)

    def document(self, base: str) -> dict[str, Any]:
        """Returns the schema as clients see it. *base* is the URL of the SCIM endpoints."""
        return {
            "schemas": [f"{CORE}:Schema"],
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "attributes": [each.document for each in self.attributes],
            "meta": {"resourceType": "Schema", "location": f"{base}/Schemas/{self.id}"},
        }


@frozen
class ResourceType:
    """A type of resources: its name, endpoint, schema and extensions."""

    name: str
    endpoint: str
    description: str
    schema: Schema
    extensions: tuple[Schema, ...] = ()

    @property
    def attributes(self) -> Iterator[Attribute]:
        """The attributes of the schema and those that every resource has, without those of extensions."""
        yield from COMMON
        yield from self.schema.attributes

    def attribute(self, name: str) -> Attribute | None:
        """Returns an attribute of the schema or one that every resource has."""
        return next((each for each in self.attributes if each.name.lower() == name.lower()), None)

    def schema_of(self, urn: str) -> Schema | None:
        """Returns the schema or the extension with this URN."""
        return next((each for each in (self.schema, *self.extensions) if each.id.lower() == urn.lower()), None)

    def document(self, base: str, *, standard: bool) -> dict[str, Any]:
        """Returns the resource type as clients see it. *base* is the URL of the SCIM endpoints."""
        found: dict[str, Any] = {
            "schemas": [f"{CORE}:ResourceType"],
            "id": self.name,
            "name": self.name,
            "description": self.description,
            "endpoint": f"/{self.endpoint}",
            "schema": self.schema.id,
        }
        if self.extensions and standard:
            found["schemaExtensions"] = [{"schema": each.id, "required": False} for each in self.extensions]
        return found | {"meta": {"resourceType": "ResourceType", "location": f"{base}/ResourceTypes/{self.name}"}}


def _several(name: str, description: str, types: tuple[str, ...], value: str = "string") -> Attribute:
    """Returns an attribute with several values, each with a type, which the server keeps as they are sent."""
    return Attribute(
        name,
        "complex",
        description,
        (
            Attribute("value", value, f"A value of {name}."),
            Attribute("display", description="What is shown for the value.", mutability=READ_WRITE),
            Attribute("type", description="What the value is for.", examples=types),
            Attribute("primary", "boolean", "Whether the value is the preferred one."),
        ),
        several=True,
        stored=True,
    )


LOCALES = ("en-US", "en-GB", "de-DE", "fr-FR", "es-ES", "it-IT", "nl-NL", "pt-BR", "ru-RU", "ja-JP", "zh-CN")
TIME_ZONES = ("UTC", "Europe/Berlin", "Europe/Paris", "Europe/London", "America/New_York", "America/Los_Angeles", "Asia/Tokyo")

COMMON = (
    Attribute("schemas", "reference", "The schemas of the resource.", several=True, mutability=READ_ONLY, returned="always"),
    Attribute(
        "id", description="The id of the resource.", mutability=READ_ONLY, returned="always", uniqueness="server", exact=True
    ),
    Attribute("externalId", description="The id that the client gives the resource.", exact=True),
    Attribute(
        "meta",
        "complex",
        "What the server knows of the resource.",
        (
            Attribute("resourceType", description="The resource type.", mutability=READ_ONLY, exact=True),
            Attribute("location", "reference", "The URL of the resource.", mutability=READ_ONLY, references=("uri",)),
            Attribute("version", description="The version of the resource.", mutability=READ_ONLY, exact=True),
        ),
        mutability=READ_ONLY,
    ),
)
"""The attributes that every resource has. They are in no schema."""

_ADDRESS_PARTS = ("formatted", "streetAddress", "locality", "region", "postalCode", "country")

USER_SCHEMA = Schema(
    USER,
    "User",
    "A user of the project.",
    (
        Attribute(
            "userName", description="The e-mail address of the user.", required=True, uniqueness="server", returned="always"
        ),
        Attribute(
            "name",
            "complex",
            "The name of the user.",
            (
                Attribute("formatted", description="The whole name.", stored=True),
                Attribute("familyName", description="The last name, of at most 50 characters."),
                Attribute("givenName", description="The first name, of at most 50 characters."),
                Attribute("middleName", description="The middle names.", stored=True),
                Attribute("honorificPrefix", description="What is written before the name.", stored=True),
                Attribute("honorificSuffix", description="What is written after the name.", stored=True),
            ),
        ),
        Attribute("displayName", description="The name that is shown for the user.", stored=True),
        Attribute("nickName", description="How the user is called.", stored=True),
        Attribute("profileUrl", "reference", "The URL of a page about the user.", references=("external",), stored=True),
        Attribute("title", description="The title of the user, of at most 191 characters."),
        Attribute("userType", description="The relation of the user to the organization.", stored=True),
        Attribute("preferredLanguage", description="The language that the user prefers.", stored=True),
        Attribute("locale", description="The locale of the user, of at most 8 characters.", examples=LOCALES),
        Attribute("timezone", description="The time zone of the user.", required=True, examples=TIME_ZONES),
        Attribute("active", "boolean", "Whether the user may sign in.", required=True),
        Attribute(
            "password",
            description="The password of the user, which is never shown.",
            mutability=WRITE_ONLY,
            returned="never",
            exact=True,
        ),
        Attribute(
            "emails",
            "complex",
            "The e-mail address of the user, of which there is one.",
            (
                Attribute("value", description="The address."),
                Attribute("type", description="Always work.", examples=("work",)),
                Attribute("primary", "boolean", "Whether the address is the preferred one."),
            ),
            several=True,
            required=True,
        ),
        _several("phoneNumbers", "Phone numbers of the user.", ("work", "home", "mobile", "fax", "pager", "other")),
        _several("ims", "Addresses of the user for instant messages.", ()),
        _several("photos", "URLs of photos of the user.", ("photo", "thumbnail"), "reference"),
        Attribute(
            "addresses",
            "complex",
            "Addresses of the user.",
            (
                *(Attribute(name, description=f"The {name} of an address.") for name in _ADDRESS_PARTS),
                Attribute("type", description="What the address is for.", examples=("work", "home", "other")),
                Attribute("primary", "boolean", "Whether the address is the preferred one."),
            ),
            several=True,
            stored=True,
        ),
        _several("entitlements", "Entitlements of the user.", ()),
        _several("roles", "Roles of the user elsewhere. They change nothing here: groups do.", ()),
        Attribute(
            "groups",
            "complex",
            "The role of the user, which is changed by the members of groups.",
            (
                Attribute("value", description="The id of the group.", mutability=READ_ONLY, exact=True),
                Attribute("$ref", "reference", "The URL of the group.", mutability=READ_ONLY, references=("Group",)),
                Attribute("display", description="The name of the group.", mutability=READ_ONLY),
                Attribute("type", description="Always direct.", mutability=READ_ONLY, examples=("direct",)),
            ),
            several=True,
            mutability=READ_ONLY,
        ),
    ),
)

ENTERPRISE_SCHEMA = Schema(
    ENTERPRISE,
    "EnterpriseUser",
    "What an organization knows of the user.",
    (
        Attribute("employeeNumber", description="The number of the employee.", stored=True),
        Attribute("costCenter", description="The cost center.", stored=True),
        Attribute("organization", description="The organization.", stored=True),
        Attribute("division", description="The division.", stored=True),
        Attribute("department", description="The department.", stored=True),
        Attribute(
            "manager",
            "complex",
            "The manager of the user.",
            (
                Attribute("value", description="The id of the manager.", exact=True),
                Attribute("$ref", "reference", "The URL of the manager.", references=("User",)),
                Attribute("displayName", description="The name of the manager.", mutability=READ_ONLY),
            ),
            stored=True,
        ),
    ),
)

GROUP_SCHEMA = Schema(
    GROUP,
    "Group",
    "A role of the project.",
    (
        Attribute(
            "displayName",
            description="The name of the role, of at most 100 characters.",
            required=True,
            uniqueness="server",
            returned="always",
        ),
        Attribute(
            "members",
            "complex",
            "The users of the role. A user has one role, so becoming a member of a group ends the membership in another.",
            (
                Attribute("value", description="The id of the user.", mutability=IMMUTABLE, exact=True),
                Attribute("$ref", "reference", "The URL of the user.", mutability=IMMUTABLE, references=("User",)),
                Attribute("type", description="Always User.", mutability=IMMUTABLE, examples=("User",)),
            ),
            several=True,
        ),
    ),
)

USERS = ResourceType("User", "Users", "Users of the project", USER_SCHEMA, (ENTERPRISE_SCHEMA,))
GROUPS = ResourceType("Group", "Groups", "Roles of the project", GROUP_SCHEMA)
RESOURCE_TYPES: Mapping[str, ResourceType] = {each.name: each for each in (USERS, GROUPS)}


def schemas(*, standard: bool) -> Sequence[Schema]:
    """Returns the schemas of all resources. Directus 8 had no extension."""
    return (USER_SCHEMA, ENTERPRISE_SCHEMA, GROUP_SCHEMA) if standard else (USER_SCHEMA, GROUP_SCHEMA)


def listed(resources: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns a list response with all of its resources."""
    return {
        "schemas": [LIST],
        "totalResults": len(resources),
        "startIndex": 1,
        "itemsPerPage": len(resources),
        "Resources": list(resources),
    }


def service_provider_config(base: str, max_results: int) -> dict[str, Any]:
    """Returns what clients may expect of the server. *base* is the URL of the SCIM endpoints, *max_results* the maximum size of a
    page."""
    return {
        "schemas": [f"{CORE}:ServiceProviderConfig"],
        "patch": {"supported": True},
        "bulk": {"supported": False, "maxOperations": 0, "maxPayloadSize": 0},
        "filter": {"supported": True, "maxResults": max_results},
        "changePassword": {"supported": True},
        "sort": {"supported": True},
        "etag": {"supported": True},
        "authenticationSchemes": [
            {
                "type": "oauthbearertoken",
                "name": "Bearer token",
                "description": "The token of a user in the header Authorization: the static one, or one of a sign-in.",
                "primary": True,
            }
        ],
        "meta": {"resourceType": "ServiceProviderConfig", "location": f"{base}/ServiceProviderConfig"},
    }
