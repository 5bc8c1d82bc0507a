"""The GraphQL service: answers requests. It keeps the catalogs of callers, and documents, with the snapshot of the project."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import orjson
from attrs import frozen
from graphql import (
    DocumentNode,
    GraphQLError,
    NameNode,
    OperationDefinitionNode,
    SelectionSetNode,
    execute_sync,
    get_variable_values,
    print_ast,
    print_schema,
)
from graphql.execution.values import VariableValues, get_argument_values
from twisted.internet import defer
from twisted.logger import Logger

from directus_tx.access import Access, access_of
from directus_tx.config import GraphQLSettings, LimitSettings
from directus_tx.context import Context
from directus_tx.errors import ApiError, ClientGone, InternalError, InvalidRequest, ServiceUnavailable, Unauthorized
from directus_tx.graphql.catalog import Catalog, Reads
from directus_tx.graphql.documents import Document, Refused, parsed
from directus_tx.graphql.keeping import Catalogs
from directus_tx.graphql.mutations import Mutation, run_mutations
from directus_tx.graphql.planning import Operation, Planned, Planner, Reading
from directus_tx.graphql.reading import Read, SchemaObjects, aggregate_query, read_root
from directus_tx.graphql.requests import PersistedQueries, PersistedQueryNotFound, Request
from directus_tx.graphql.types import catalog_of, grants_of
from directus_tx.items import Writer, in_transaction
from directus_tx.items.batches import together
from directus_tx.items.service import Items
from directus_tx.query import Query, WriteOptions
from directus_tx.threads import OneAtATime

log = Logger()

INLINE = 1500
"""Characters of a document up to which it is read at once. Longer ones are read in a thread, so that the reactor runs meanwhile."""

BUSY = "Too many GraphQL schemas and documents are waiting to be read; try again shortly."
WAITING = 64
"""How much work may wait for the thread."""


SIDE_BY_SIDE = 8
"""How many root fields of a document are read at the same time. Further ones would keep connections from other requests."""


@frozen
class Outcome:
    """The answer of a request. `doubtful`: an error may have been caused by an outdated snapshot."""

    answer: dict[str, Any]
    doubtful: bool = False


class GraphQL:
    """Answers requests of GraphQL. The server makes it once."""

    def __init__(self, settings: GraphQLSettings, limits: LimitSettings) -> None:
        self.settings = settings
        self.limits = limits
        self.persisted = PersistedQueries()
        self._reading = OneAtATime(BUSY, queue=WAITING)
        """Reads documents and makes schemas."""
        self._describing = OneAtATime(BUSY, queue=WAITING)
        """Answers what is asked about schemas, which may take much longer, beside the other work."""

    # what is kept

    def check_caller(self, ctx: Context) -> None:
        """Raises Unauthorized for callers who may read no collection except system collections."""
        access = access_of(ctx)
        if ctx.accountability.scope is None:
            (reads,) = ctx.schema.kept(("graphql", access.key), lambda: (_reads_items(access),))
        else:
            reads = _reads_items(access)
        if not reads:
            raise Unauthorized("You may not use GraphQL: there is no collection whose items you may read.")

    async def catalog(self, ctx: Context) -> Catalog:
        """Returns the catalog of the caller."""
        access, catalogs = access_of(ctx), _catalogs(ctx)
        while (found := catalogs.get(access.key)) is None:
            others = catalogs.making.get(access.key)
            if others is not None:
                turn: defer.Deferred[None] = defer.Deferred()
                others.append(turn)
                await turn
                continue
            waiting = catalogs.making[access.key] = []
            try:
                make = partial(catalog_of, ctx.schema, grants_of(access), mutations=self.settings.mutations == "on")
                found = await self._reading.run(make)
                catalogs.keep(access.key, found)
            finally:
                del catalogs.making[access.key]
                for each in waiting:
                    each.callback(None)
            return found
        return found

    async def _document(self, ctx: Context, catalog: Catalog, text: str) -> Document:
        owner, documents = access_of(ctx).key, _catalogs(ctx).documents
        found: Document | None = documents.find(owner, ("document", text))
        if found is not None:
            return found
        work = partial(parsed, text, catalog, self.settings, hide_suggestions=not self._may_introspect(ctx))
        document = work() if len(text) < INLINE else await self._reading.run(work)
        documents.get(owner, ("document", text), lambda: document, _weight)
        return document

    # answers

    async def answer(self, ctx: Context, service: Items, request: Request, options: WriteOptions) -> Outcome:
        """Returns the answer of a request. Raises ServiceUnavailable and ClientGone; all other errors are part of the answer."""
        try:
            text = self.persisted.text_of(ctx.project, request)
            catalog = await self.catalog(ctx)
            document = await self._document(ctx, catalog, text)
            node = document.operation(request.operation)
            variables = _variables(catalog, node, request, hide_suggestions=not self._may_introspect(ctx))
            operation = self._operation(ctx, catalog, document, text, node, variables)
            if operation.introspection:
                self.check_introspection(ctx)
            if operation.writes:
                return await self._write(ctx, service, catalog, operation, variables, options)
            if node.variable_definitions:
                reads = self._reads(ctx, catalog, operation, variables)
            else:
                reads = operation.kept.get("reads") or self._reads(ctx, catalog, operation, variables)
                operation.kept["reads"] = reads
        except Refused as refused:
            return Outcome({"errors": [_described(each) for each in refused.errors]}, doubtful=True)
        except GraphQLError as error:
            return Outcome({"errors": [_described(error)]})
        except ApiError as error:
            return Outcome(
                {"errors": [self._error(ctx, error)]}, error.depends_on_schema and not isinstance(error, InvalidRequest)
            )
        return await self._read(ctx, service, catalog, document, node, operation, reads, request)

    def _operation(
        self,
        ctx: Context,
        catalog: Catalog,
        document: Document,
        text: str,
        node: OperationDefinitionNode,
        variables: VariableValues,
    ) -> Operation:
        flags = {name: bool(variables.coerced.get(name)) for name in document.flags}
        name = node.name.value if node.name else ""
        key = ("operation", text, name, tuple(flags.items()))
        planner = Planner(catalog, self.settings)
        found: Operation = _catalogs(ctx).documents.get(
            access_of(ctx).key, key, lambda: planner.plan(node, document.fragments, flags), lambda made: made.weight + len(text)
        )
        return found

    def _may_introspect(self, ctx: Context) -> bool:
        """Whether the caller may ask for the schema. To others, errors do not tell the names that may have been meant."""
        who, allowed = ctx.accountability, self.settings.introspection
        return allowed == "all" or (allowed == "users" and not who.public) or (allowed == "administrators" and who.admin)

    def check_introspection(self, ctx: Context) -> None:
        """Raises InvalidRequest if the caller may not ask for the schema."""
        if not self._may_introspect(ctx):
            raise InvalidRequest("You may not ask for the schema (graphql.introspection).")

    def _reads(self, ctx: Context, catalog: Catalog, operation: Operation, variables: VariableValues) -> dict[str, Read]:
        """Returns the root fields that are read, by the names under which they are shown. Raises InvalidRequest if they exceed a limit."""
        planner = Planner(catalog, self.settings)
        found: dict[str, Read] = {}
        total = 0.0
        for planned in operation.roots:
            if planned.root is None or planned.definition is None:
                continue
            arguments = get_argument_values(planned.definition, planned.node, variables)
            query, items = Query(), 0.0
            again: dict[Reading, Query] = {}
            if planned.root.does in (Reads.ITEMS, Reads.AGGREGATES):

                def query_of(reading: Reading, planned: Planned = planned, arguments: Any = arguments) -> tuple[Query, float]:
                    default = ctx.schema.default_limit
                    return planner.query_of(planned, reading, variables, arguments, self.limits, default)

                query, items = query_of(planned.reading)
                for reading in _every(planned.reading):
                    again[reading], more = query_of(reading)
                    items += more
                if planned.root.does is Reads.AGGREGATES:
                    query = aggregate_query(planned, query, arguments.get("groupby") or ())
            total += items
            self._check_items(total)
            found[planned.key] = Read(planned, arguments, query, again, self.settings.max_answer_size)
        return found

    def _check_items(self, number: float) -> None:
        """Raises InvalidRequest if a document asks for more items than it may."""
        if number > self.settings.max_items:
            text = f"A document may ask for up to {self.settings.max_items} items by its limits"
            raise InvalidRequest(f"{text} (graphql.max_items): ask for smaller pages.")

    async def _read(
        self,
        ctx: Context,
        service: Items,
        catalog: Catalog,
        document: Document,
        node: OperationDefinitionNode,
        operation: Operation,
        reads: Mapping[str, Read],
        request: Request,
    ) -> Outcome:
        """Reads the root fields side by side. One that fails is null. A document that asks for too much of the schema reads nothing."""
        try:
            described = await self._describe(ctx, catalog, document, node, operation, request) if operation.introspection else {}
        except InvalidRequest as error:
            return Outcome({"errors": [self._error(ctx, error)]})
        errors: list[dict[str, Any]] = []
        doubtful = False
        places = defer.DeferredSemaphore(SIDE_BY_SIDE)
        schema_objects = SchemaObjects()

        async def one(key: str, read: Read) -> Any:
            nonlocal doubtful
            await places.acquire()
            try:
                return await read_root(service, ctx, read, schema_objects)
            except (ServiceUnavailable, ClientGone):
                raise
            except Exception as error:
                doubtful = doubtful or not isinstance(error, ApiError) or error.depends_on_schema
                errors.append(self._error(ctx, error, key))
                return None
            finally:
                places.release()

        if len(reads) == 1:
            ((key, read),) = reads.items()
            values = {key: await one(key, read)}
        else:
            values = dict(zip(reads, await together(*[one(key, read) for key, read in reads.items()]), strict=True))
        data = {
            each.key: each.typename
            if each.typename and each.root is None
            else described[each.key]
            if each.root is None
            else values[each.key]
            for each in operation.roots
        }
        return Outcome({"errors": errors, "data": data} if errors else {"data": data}, doubtful)

    async def _describe(
        self,
        ctx: Context,
        catalog: Catalog,
        document: Document,
        node: OperationDefinitionNode,
        operation: Operation,
        request: Request,
    ) -> dict[str, Any]:
        """Returns what the operation asks for about the schema, as JSON by the names under which it is shown."""
        nodes = tuple([each for planned in operation.roots for each in planned.nodes])
        asked = OperationDefinitionNode(
            operation=node.operation,
            name=node.name or NameNode(value="Schema"),
            variable_definitions=node.variable_definitions,
            directives=(),
            selection_set=SelectionSetNode(selections=nodes),
        )
        document_node = DocumentNode(definitions=(asked, *document.fragments.values()))
        try:
            variables = orjson.dumps(request.variables, option=orjson.OPT_SORT_KEYS)
        except TypeError:
            raise InvalidRequest("The variables cannot be read.") from None
        descriptions, key = _catalogs(ctx).descriptions, (access_of(ctx).key, print_ast(document_node), variables)
        kept = descriptions.get(key)
        if kept is not None:
            return kept
        most = self.settings.max_described
        found = await self._describing.run(_introspect, catalog, document_node, dict(request.variables), most)
        descriptions.keep(key, found, sum([len(orjson.dumps(each)) for each in found.values()]))
        return found

    async def _write(
        self,
        ctx: Context,
        service: Items,
        catalog: Catalog,
        operation: Operation,
        variables: VariableValues,
        options: WriteOptions,
    ) -> Outcome:
        """Runs mutations in one transaction."""
        planner = Planner(catalog, self.settings)
        mutations = []
        total = 0.0
        for each in operation.roots:
            if each.root is not None and each.definition is not None:
                arguments = get_argument_values(each.definition, each.node, variables)
                query, items = planner.query_of(each, each.reading, variables, {}, self.limits, 1)
                total += items * _number_written(arguments)
                self._check_items(total)
                mutations.append(Mutation(each, arguments, query))
        current: str | None = None

        def begin(key: str) -> None:
            nonlocal current
            current = key

        async def work(writer: Writer) -> dict[str, Any]:
            return await run_mutations(catalog, service, writer, mutations, begin)

        try:
            values = await in_transaction(service, ctx, options, work) if mutations else {}
        except (ServiceUnavailable, ClientGone):
            raise
        except Exception as error:
            doubtful = not isinstance(error, ApiError) or error.depends_on_schema
            return Outcome({"errors": [self._error(ctx, error, current)], "data": None}, doubtful)
        return Outcome({"data": {each.key: each.typename if each.root is None else values[each.key] for each in operation.roots}})

    def _error(self, ctx: Context, error: Exception, key: str | None = None) -> dict[str, Any]:
        """Returns an exception as it is shown. What is unexpected is logged, and the answer has the id of the request."""
        if isinstance(error, GraphQLError):
            found = _described(error)
        elif isinstance(error, ApiError) and not isinstance(error, InternalError):
            known = access_of(ctx).naming_denied(error)
            code: Any = "PERSISTED_QUERY_NOT_FOUND" if isinstance(error, PersistedQueryNotFound) else known.code
            found = {"message": known.message, "extensions": {"code": code}}
        else:
            log.failure("request {request_id} failed", request_id=ctx.request_id)
            message = f"The server failed. The id of the request is {ctx.request_id}."
            found = {"message": message, "extensions": {"code": InternalError.code}}
        return found if key is None else {**found, "path": [key]}

    async def schema_text(self, ctx: Context) -> str:
        """Returns the schema of the caller in the schema definition language."""
        catalog = await self.catalog(ctx)
        found: str = await self._describing.run(print_schema, catalog.schema)
        return found + "\n"


def _catalogs(ctx: Context) -> Catalogs:
    return ctx.schema.kept("graphql catalogs", Catalogs)


def _weight(document: Document) -> int:
    return document.weight


def _reads_items(access: Access) -> bool:
    return any(access.grant(name).read for name, each in access.schema.collections.items() if not each.system) or access.admin


def _every(reading: Reading) -> Sequence[Reading]:
    """Returns the readings of a reading that are read again, and theirs."""
    return [found for each in reading.again for found in (each.reading, *_every(each.reading))]


def _number_written(arguments: Mapping[str, Any]) -> int:
    """Returns the number of items that a mutation with these arguments writes, without related ones."""
    several = arguments.get("ids", arguments.get("data"))
    return len(several) if isinstance(several, list) else 1


def _variables(catalog: Catalog, node: OperationDefinitionNode, request: Request, *, hide_suggestions: bool) -> VariableValues:
    """Returns the values of the variables of an operation. Raises Refused."""
    found = get_variable_values(
        catalog.schema,
        node.variable_definitions or (),
        dict(request.variables),
        max_errors=10,
        hide_suggestions=hide_suggestions,
    )
    if isinstance(found, list):
        raise Refused(found)
    return found


class _TooMuchDescribed(BaseException):
    """An answer about the schema has too many values. graphql-core catches each Exception and goes on with the next value."""


def _introspect(catalog: Catalog, document: DocumentNode, variables: dict[str, Any], most: int) -> dict[str, orjson.Fragment]:
    """Returns what a document asks for about the schema. Raises InvalidRequest if that is more than *most* values."""
    left = most

    def count(resolve: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise _TooMuchDescribed
        return resolve(*arguments, **options)

    try:
        result = execute_sync(catalog.schema, document, variable_values=variables, middleware=(count,))
    except _TooMuchDescribed:
        raise InvalidRequest(
            f"The answer about the schema would have more than {most} values (graphql.max_described). Ask for single types with __type, or"
            " read the schema at specs/graphql."
        ) from None
    if result.errors:
        raise InvalidRequest(result.errors[0].message)
    return {key: orjson.Fragment(orjson.dumps(value)) for key, value in (result.data or {}).items()}


def _described(error: GraphQLError) -> dict[str, Any]:
    """Returns an error of a document as it is shown. Messages repeat parts of the document, so they are cut like those of other errors."""
    found: dict[str, Any] = {"message": InvalidRequest(error.message).message}
    if error.locations:
        found["locations"] = [{"line": each.line, "column": each.column} for each in error.locations]
    return {**found, "extensions": {"code": InvalidRequest.code}}
