"""Several processes that serve one port: ``hetsyn serve --workers N``.

The supervisor (``supervisor``) binds the port, starts a process a worker with the same command line, restarts one that
dies, and passes signals on. The workers accept connections from the same sockets.

**A session has one worker**: the one that its id's hash names (``routing``), with a store as without. So all promises
of one process hold: a session's chunks meet in one place, whatever connections they come on. An id that a worker makes
is one of its own.

- *A connection moves* (``handover``) to the worker of the session that its first request names in its URL, as a file
  descriptor, together with the bytes that have come. A client that stays with a session pays for this once. A stream
  always moves.
- *A request is passed on* (``siblings``) where a connection carries chunks of several sessions, or names them in its
  body. It is a call of the other worker's ASGI application over a Unix socket: method, path, query, content type, body
  and client there; status, headers and body back. If the client leaves, the call is cancelled.
- *If a session's worker is away*, a request gets 503 without a store. With a store this worker takes it, and the
  store's fences keep its order.

**A worker that dies** takes its sessions with it, if there is no store. Their ids stay in a file (``begun``), which the
next process under its number reads: their chunks get 410, numbered or not.

**Control.** Supervisor and worker exchange lines of JSON over a socket pair (``control``):

    worker                          supervisor
    loaded, with its models  ->
                             <-     serve                   once all are loaded, or again after a restart
    reload                   ->                             a signal, or a change of the folder
                             <-     plan                    to all: open and test new versions, change nothing
    planned, with its models ->
                             <-     publish | forget        publish if all would offer the same

A worker whose socket closes has lost its supervisor, and ends as on SIGTERM.
"""
