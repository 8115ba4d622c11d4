"""`still gc`."""

from __future__ import annotations

import shutil

import click

from stillhouse.entrypoints.options import emit, output_option

__all__ = ["command"]


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be freed.")
@click.option("--forget", "names", multiple=True, metavar="NAME", help="Forget a model first, with everything it was made from.")
@output_option
def command(dry_run: bool, names: tuple[str, ...], output: str) -> None:
    """Free what no model refers to: its plan, the revision that serves, three former ones.

    What is kept and not served is compressed where that saves a tenth of it, and unpacked when it is used again. Nothing is
    freed while something is built or a server starts; --dry-run says even then what would be.

    \b
    Example:
      still gc --dry-run
      still gc --forget old-model
    """
    from dataclasses import asdict

    from stillhouse.clients.store.gc import collect
    from stillhouse.clients.store.local import LocalStore
    from stillhouse.clients.store.locks import Busy
    from stillhouse.entrypoints.local import servers
    from stillhouse.entrypoints.local.state import kept
    from stillhouse.entrypoints.local.text import size
    from stillhouse.errors import UsageError
    from stillhouse.settings import load_settings

    store = LocalStore(load_settings().home)
    for name in names:
        if name not in store.model_names():
            known = ", ".join(store.model_names()) or "none yet"
            raise UsageError("there is no such model", field="--forget", found=name, allowed=known, fix="still status")
        try:
            with store.model(name, wait=False):
                if servers.find(store, name) is not None:
                    raise UsageError("the model is being served", field="--forget", found=name, fix=f"still down {name}")
                if not dry_run:
                    store.forget_model(name)
                    shutil.rmtree(store.run_dir(name), ignore_errors=True)
        except Busy as busy:
            raise UsageError(
                "the model is being built", field="--forget", found=name, fix=f"wait for process {busy.holder}, or stop it"
            ) from None

    def needed() -> tuple[set[str], set[str]]:
        keys, digests = kept(store, without=names)
        for name in store.model_names():
            running = servers.find(store, name)
            if running is not None:
                digests.add(running.revision)
        return keys, digests

    freed = collect(store, needed, dry_run=dry_run, rest_s=0.0)

    def text() -> None:
        verb = "would free" if dry_run else "freed"
        click.echo(
            f"{verb} {size(freed.bytes)}: {len(freed.objects)} artifacts, {len(freed.receipts)} receipts,"
            f" {len(freed.scratch)} unfinished steps"
        )
        if freed.packed:
            click.echo(
                f"would compress {len(freed.packed)} artifacts that are not served"
                if dry_run
                else f"compressed {len(freed.packed)} artifacts that are not served: {size(freed.saved)} less"
            )
        if freed.busy:
            click.echo(
                "note: a build or a server start is using the store; its own files do not count, and the figures can change"
            )

    emit(asdict(freed), output, text)
