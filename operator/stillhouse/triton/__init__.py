"""Triton: repository rendering (pure), runtimes as data, our backend, and the embedded server of a laptop.

Rendering (`repository`, `model_config`, `profile`, `runtimes`, `settings`) imports no client and starts nothing; `server`
and what it uses does.
"""
