"""directus files."""

import click

from directus_tx.cli.command import Environment, Failed, online
from directus_tx.files import checking


@click.group()
def files() -> None:
    """Compare the files of a project with its storage."""


@files.command("check")
@click.argument("project")
@click.option("--repair", is_flag=True, help="Delete contents and thumbnails that belong to no file or upload.")
@click.option(
    "--minutes",
    type=click.IntRange(0),
    default=60,
    show_default=True,
    help="Contents that were stored in the last minutes are not judged: their files may be about to be written.",
)
@online
async def check_files(environment: Environment, project: str, repair: bool, minutes: int) -> None:
    """Find files without content, and contents without a file.

    Thumbnails that belong to no file are found, too. The server may run meanwhile.

    Unfinished uploads by tus are compared, too.

    A server that is killed while it receives files leaves contents that belong to no file, and one that is killed while it makes a
    thumbnail of a file that is deleted at that time leaves the thumbnail. A file whose content is missing or has
    another size is named: restore its content from a backup, or delete the file.

    The exit status is 1 if there is something that has not been repaired.

    \b
    Examples:
      directus files check shop
      directus files check shop --repair
    """
    ctx = await environment.context(project)
    storage = environment.backend.projects.get(project).storage
    output = environment.output
    with output.progress() as progress:
        bar = progress.add_task("comparing files", total=await checking.number_of_files(ctx.db))
        report = await checking.check(
            ctx.db,
            storage,
            checking.age(minutes, ctx.now),
            repair=repair,
            advance=lambda number: progress.advance(bar, number),
        )
    shown = {
        "project": project,
        "files": report.files,
        "contents": report.contents,
        "missing": [{"id": id, "filename_disk": disk} for id, disk in report.missing],
        "damaged": [{"id": id, "filename_disk": disk} for id, disk in report.damaged],
        "unused": report.unused,
        "thumbnails": report.thumbnails,
        "deleted": report.deleted,
        "uploads": report.uploads,
        "incomplete": report.incomplete,
    }
    lines = [f"files: {report.files}, contents in the storage: {report.contents}, unfinished uploads: {report.uploads}"]
    lines += [f"missing: the content of file {id}, {disk}" for id, disk in report.missing]
    lines += [f"damaged: the content of file {id}, {disk}, has another size" for id, disk in report.damaged]
    lines += [f"{'deleted' if repair else 'unused'}: {name}" for name in (*report.unused, *report.thumbnails)]
    lines += [f"incomplete: the storage lacks a part of the upload {id}" for id in report.incomplete]
    output.result(shown, *lines)
    if not report.faultless:
        raise Failed(f"the files of project {project} and its storage do not agree")
