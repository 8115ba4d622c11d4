"""`still bench`."""

from __future__ import annotations

from pathlib import Path

import click

from stillhouse.entrypoints.options import emit, name_argument, output_option

__all__ = ["command"]


@click.command()
@name_argument
@click.option("-c", "--concurrency", type=click.IntRange(1, 256), default=16, show_default=True, help="Clients in a closed loop.")
@click.option(
    "-n",
    "--requests",
    type=click.IntRange(50, 1_000_000),
    default=2000,
    show_default=True,
    help="Requests of the closed loop; one client sends a quarter as many before.",
)
@click.option(
    "--texts", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="One text a line. Default: the gate's data."
)
@output_option
def command(name: str, concurrency: int, requests: int, texts: Path | None, output: str) -> None:
    """Measure latency and throughput of what is running.

    One client first, then the closed loop; both from this process, on the same machine as the server: for figures to
    compare with other systems use `make bench-serving`, whose clients are compiled.

    \b
    Example:
      still bench docstring-search
      still bench docstring-search -c 4 -n 5000 -o json
    """
    from stillhouse.clients.store.local import LocalStore
    from stillhouse.entrypoints.local import servers
    from stillhouse.entrypoints.local.benching import bench
    from stillhouse.entrypoints.local.display import showing
    from stillhouse.entrypoints.local.text import interval
    from stillhouse.settings import load_settings

    servers.require(LocalStore(load_settings().home), name)  # before a bar is drawn
    with showing() as listener, listener.busy("bench") as progress:

        def report(done: int, total: int) -> None:
            progress.update(done, total, "requests")

        data = bench(name, concurrency=concurrency, requests=requests, texts=texts, report=report)

    def text() -> None:
        click.echo(
            f"{name} {data['revision'][7:19]} ({data['precision']}) at {data['address']}, mean batch {data['meanBatch']:.2f}"
        )
        for row in data["runs"]:
            clients = "client" if row["concurrency"] == 1 else "clients"
            click.echo(f"  {row['concurrency']:>3} {clients}, {row['requests']} requests, {row['distinct']} distinct")
            for figure in ("latencyP50", "latencyP99", "throughput"):
                click.echo(f"      {figure:<12} {interval(figure, row[figure])}")

    emit(data, output, text)
