"""`abm app`: the application in the browser."""

import signal
from typing import Annotated, Any

import typer

_ENDS = (signal.SIGINT, signal.SIGTERM)  # an exception thrown by a signal could get lost in a callback


def app(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any that is free.")] = 5006,
    address: Annotated[
        str, typer.Option(help="Address on which it listens; 0.0.0.0: reachable from outside.")
    ] = "127.0.0.1",
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-origin",
            metavar="HOST[:PORT]",
            help="Under what name it is reached, where another than the address; may be repeated.",
            show_default=False,
        ),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, max=64, help="Runs at once, of all visitors together.")] = 4,
    memory: Annotated[float, typer.Option(min=0.25, help="Memory that one run may have, GB.")] = 4.0,
    minutes: Annotated[float, typer.Option(min=0.1, help="Minutes that one run may last.")] = 60.0,
    show: Annotated[bool, typer.Option("--show/--no-show", help="Open a browser.")] = True,
) -> None:
    """Scenarios with sliders in the browser, live, two side by side. Nothing is fetched from elsewhere."""
    from experiments.app.runs import Limits, Runs

    keeper = Runs(Limits(runs, memory * 1e9, minutes * 60.0))
    try:
        serve(keeper, port, address, allow_origin or [], show)
    finally:
        keeper.close()


def serve(keeper: Any, port: int, address: str, origins: list[str], show: bool) -> None:
    """Serve pages until interrupted."""
    import panel as pn
    from bokeh.settings import settings
    from tornado.ioloop import IOLoop

    from abm.scenario import ScenarioError
    from experiments.progress import say

    settings.resources = "server"
    pn.extension()
    try:
        server = pn.io.server.get_server(
            {"/": lambda: session(keeper)},
            port=port,
            address=address,
            websocket_origin=origins or None,
            show=False,
            start=False,
            title="exit-cascade",
            unused_session_lifetime_milliseconds=10_000,
            check_unused_sessions_milliseconds=1_000,
        )
    except OSError as error:
        raise ScenarioError(f"{address}:{port}: {error.strerror}; choose another with --port (0: any)") from None
    server.start()
    url = f"http://{'localhost' if address in ('127.0.0.1', '0.0.0.0') else address}:{server.port}/"
    say(f"{url} (Ctrl-C ends it)")
    if show:
        server.show("/")
    loop = IOLoop.current()
    # Panel 1.10 begins this with the first event of a visitor, in a thread where it never gets started, and tries again without end
    loop.add_callback(pn.state._schedule_busy_cleanup)
    before = {each: signal.signal(each, lambda *_: loop.add_callback_from_signal(loop.stop)) for each in _ENDS}
    try:
        loop.start()
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        server.stop()


def session(keeper: Any) -> Any:
    """The page of a visitor who has come."""
    import panel as pn

    from experiments.app.page import Page

    asked = {name: values[0].decode("utf-8", "replace") for name, values in pn.state.session_args.items() if values}
    page = Page(keeper, asked)
    pn.state.on_session_destroyed(lambda _context: page.close())
    return page.template()
