"""How plugins are found, loaded and refused, what their calls cost, and the watchdog."""

import pathlib
import sys
import textwrap
import threading
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher

from directus_tx.api import API_VERSION, hookimpl
from directus_tx.config import PluginSettings
from directus_tx.context import ALL_PLUGINS, EnabledPlugins
from directus_tx.plugins.costs import Costs
from directus_tx.plugins.manager import PluginError, Plugins
from directus_tx.plugins.watchdog import Watchdog

GOOD = """
from directus_tx.api import hookimpl

directus_tx_api = 1
__version__ = "1.2"

@hookimpl
def item_create(payload):
    payload["by"] = __name__
"""


@pytest.fixture
def directory(tmp_path: pathlib.Path) -> Any:
    """A directory for plugins; what is loaded from it is forgotten afterwards."""
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def write(directory: pathlib.Path, **files: str) -> None:
    for name, text in files.items():
        path = directory / (name.replace("__", "/") + ".py" if "__" in name else name + ".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))


def plugins_of(directory: pathlib.Path, **settings: Any) -> Plugins:
    return Plugins(Clock(), evolve(PluginSettings(directory=str(directory), block_limit=0.0), **settings))


def order(plugins: Plugins, hook: str = "item_create") -> list[str]:
    return [each.plugin for each in plugins._implementations(hook, ALL_PLUGINS)]


def test_files_and_packages_of_a_directory_are_plugins(directory: pathlib.Path) -> None:
    write(directory, alone=GOOD, _hidden="1 / 0", package__other="NAME = 'other'")
    (directory / "package" / "__init__.py").write_text(GOOD + "from .other import NAME\n")
    (directory / "notes.txt").write_text("no plugin")
    (directory / "empty").mkdir()
    plugins = plugins_of(directory)
    plugins.load()
    assert order(plugins) == ["alone", "package"]
    alone, package = plugins.loaded["alone"], plugins.loaded["package"]
    assert (alone.version, alone.source, alone.hooks) == ("1.2", str(directory / "alone.py"), ("item_create",))
    assert package.files == f"{directory / 'package'}/"
    # They hide no installed module.
    assert "alone" not in sys.modules


def test_plugins_are_called_in_the_order_of_the_setting_or_of_their_names(directory: pathlib.Path) -> None:
    write(directory, b=GOOD, a=GOOD, c=GOOD)
    for settings, expected in (
        ({}, ["a", "b", "c"]),
        ({"enabled": ("c", "a")}, ["c", "a"]),
        ({"disabled": ("a",)}, ["b", "c"]),
        ({"enabled": ("c", "b"), "disabled": ("c",)}, ["b"]),
    ):
        plugins = plugins_of(directory, **settings)
        plugins.load()
        assert order(plugins) == expected


def test_what_is_disabled_is_not_even_imported(directory: pathlib.Path) -> None:
    write(directory, good=GOOD, bad="raise SystemExit('imported')")
    plugins = plugins_of(directory, disabled=("bad",))
    plugins.load()
    assert list(plugins.loaded) == ["good"]


FAULTS = {
    "a syntax error": ("def :", "SyntaxError"),
    "an import that fails": ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
    "an exception": ("\n\nraise ValueError('of\\nmine')", "ValueError: of mine (/"),
    "leaving": ("raise SystemExit(0)", "SystemExit: 0"),
    "no version": ("x = 1", "it does not say for which version of directus_tx.api it is made: directus_tx_api = 1"),
    "another version": ("directus_tx_api = 2", "it is made for version 2 of directus_tx.api, and this server has version 1"),
    "an unknown hook": (
        GOOD + "@hookimpl\ndef item_creat(payload): pass\n",
        'there is no hook item_creat; did you mean "item_create"?',
    ),
    "an unknown argument": (
        GOOD.replace("(payload)", "(payload, colour)"),
        "the hook item_create has no argument colour; it has ctx, collection, payload",
    ),
    "an argument of a hook without any": (
        GOOD + "@hookimpl\ndef application_boot(ctx): pass\n",
        "the hook application_boot has no argument ctx; it has none",
    ),
    "a wrapper that does not yield": (GOOD.replace("@hookimpl", "@hookimpl(wrapper=True)"), "wrapper"),
    "an attribute that raises": (
        "import directus_tx.api\ndef __getattr__(name): raise RuntimeError(name)\n",
        "RuntimeError: directus_tx_api",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_plugin_that_cannot_be_used_is_named_with_its_error(directory: pathlib.Path, fault: str) -> None:
    text, reason = FAULTS[fault]
    write(directory, good=GOOD, bad=text)
    with pytest.raises(PluginError) as refused:
        plugins_of(directory).load()
    assert f"the plugin bad ({directory / 'bad.py'}) cannot be loaded: " in str(refused.value)
    assert reason in str(refused.value)
    plugins = plugins_of(directory, on_error="skip")
    plugins.load()
    assert list(plugins.loaded) == ["good"]
    assert reason in plugins.failed["bad"]
    assert order(plugins) == ["good"]
    assert [(each["name"], each["error"] is None) for each in plugins.shown()] == [("good", True), ("bad", False)]


def test_the_log_names_a_plugin_without_hooks(directory: pathlib.Path) -> None:
    """Its author has forgotten to decorate functions."""
    lines: list[str] = []
    write(directory, good=GOOD, idle=GOOD.replace("@hookimpl\n", ""))
    plugins = plugins_of(directory)
    listen = lambda event: lines.append(formatEvent(event))  # noqa: E731
    globalLogPublisher.addObserver(listen)
    try:
        plugins.load()
    finally:
        globalLogPublisher.removeObserver(listen)
    assert list(plugins.loaded) == ["idle", "good"]
    assert [line for line in lines if "no hook" in line] == [
        f"the plugin idle ({directory / 'idle.py'}) implements no hook: hooks are functions decorated with hookimpl"
    ]


def test_all_mistakes_are_told_at_once(directory: pathlib.Path) -> None:
    write(directory, good=GOOD, bad="1 / 0", worse="1 / 0")
    (directory / "of two words.py").write_text(GOOD)
    (directory / "good").mkdir()
    (directory / "good" / "__init__.py").write_text(GOOD)
    with pytest.raises(PluginError) as refused:
        plugins_of(directory, enabled=("goood", "bad", "worse"), disabled=("none",)).load()
    lines = [line.strip() for line in str(refused.value).splitlines()]
    assert [line.partition(":")[0].partition(" (")[0] for line in lines] == [
        "two plugins have the name good",
        'the plugin "of two words"',
        "plugins.enabled",
        "plugins.disabled",
        "the plugin bad",
        "the plugin worse",
    ]
    assert "there is no plugin goood" in lines[2]
    assert lines[2].endswith('did you mean "good"?')
    with pytest.raises(PluginError, match=r"plugins\.directory: .*missing: No such file"):
        plugins_of(directory / "missing").load()


def test_a_plugin_that_registers_something_wrong_is_removed(directory: pathlib.Path) -> None:
    write(directory, good=GOOD, bad=GOOD)
    plugins = plugins_of(directory)
    plugins.load()
    assert [name for name, _ in plugins.implementations("item_create")] == ["bad", "good"]
    with pytest.raises(PluginError, match=r"the plugin bad \(.*bad.py\) cannot be used: a reason"):
        plugins.refuse("bad", "a reason")
    plugins = plugins_of(directory, on_error="skip")
    plugins.load()
    plugins.refuse("bad", "a reason")
    ((name, call),) = plugins.implementations("item_create")
    assert name == "good"
    payload: dict[str, str] = {}
    call(payload=payload, collection="not asked for")
    assert list(payload) == ["by"]
    assert plugins.failed == {"bad": "a reason"}


def test_names_are_unique() -> None:
    class Plugin:
        directus_tx_api = API_VERSION

        @hookimpl
        def item_create(self) -> None: ...

    plugins = Plugins(Clock(), PluginSettings())
    plugins.register(Plugin(), "one")
    with pytest.raises(PluginError, match="there is a plugin one already"):
        plugins.register(Plugin(), "one")
    assert plugins.named == {"item_create"}
    plugins.remove("one")
    assert plugins.named == frozenset()


def test_which_plugins_a_project_enables() -> None:
    names = ("a", "b", "c")
    for enabled, included in (
        (ALL_PLUGINS, "abc"),
        (EnabledPlugins(("a", "c"), ("c",)), "a"),
        (EnabledPlugins(()), ""),
        (EnabledPlugins(None, ("a",)), "bc"),
    ):
        assert "".join(name for name in names if enabled.includes(name)) == included


def test_costs_are_kept_in_bounded_memory() -> None:
    costs = Costs()
    assert costs.shown() == {"calls": 0, "failures": 0, "mean_ms": 0.0, "p99_ms": 0.0, "max_ms": 0.0}
    for number in range(1000):
        costs.add(0.5 if number % 100 == 99 else 0.001)
    shown = costs.shown()
    assert (shown["calls"], shown["max_ms"], shown["mean_ms"]) == (1000, 500.0, 5.99)
    assert 1.0 <= shown["p99_ms"] <= 1.25
    assert 0.5 / 1.25 <= costs.within(0.995) <= 0.5
    for seconds in (0.0, 1e-9, 1e9):
        costs.add(seconds)
    assert len(costs._buckets) == 96
    assert costs.shown()["calls"] == 1003


def test_the_watchdog_says_once_which_plugin_blocks(directory: pathlib.Path) -> None:
    """The thread of the test stands for that of the reactor. It is blocked until the log has said so."""
    said: list[str] = []
    spoken = threading.Event()

    def observe(event: dict[str, Any]) -> None:
        said.append(formatEvent(event))
        spoken.set()

    write(directory, blocking=GOOD + "def block(event):\n    return event.wait(60)\n")
    plugins = plugins_of(directory, block_limit=0.05)
    plugins.load()
    module = sys.modules["directus_tx_plugin_blocking"]
    clock = Clock()
    watchdog = Watchdog(clock, 0.05, plugins._blocker)
    globalLogPublisher.addObserver(observe)
    try:
        watchdog.start()
        assert module.block(spoken)
        # It has said it once, and says how long it was when the reactor gets to its timers again.
        clock.advance(1)
    finally:
        globalLogPublisher.removeObserver(observe)
        watchdog.stop()
        plugins.watchdog.stop()
    assert len([text for text in said if "has been blocked" in text]) == 1
    assert said[0].startswith("the server has been blocked for ")
    assert " by the plugin blocking (plugins.block_limit). It is at " in said[0]
    # What has called the plugin is left out.
    assert said[0].endswith(f"; called at {directory / 'blocking.py'}, line 11, in block: return event.wait(60)")
    assert said[1].startswith("the server is no longer blocked; it was for about ")


def test_a_plugin_that_blocks_while_it_is_loaded_is_named(directory: pathlib.Path) -> None:
    said: list[str] = []
    spoken = threading.Event()

    def observe(event: dict[str, Any]) -> None:
        said.append(formatEvent(event))
        spoken.set()

    sys.modules["spoken_of_this_test"] = spoken  # type: ignore[assignment]
    write(directory, blocking="import spoken_of_this_test\nassert spoken_of_this_test.wait(60)\n" + GOOD)
    plugins = plugins_of(directory, block_limit=0.05)
    globalLogPublisher.addObserver(observe)
    try:
        plugins.load()
    finally:
        globalLogPublisher.removeObserver(observe)
        plugins.watchdog.stop()
        del sys.modules["spoken_of_this_test"]
    assert said[0].startswith("loading the plugin blocking has been blocked for ")
    assert str(directory / "blocking.py") in said[0]
