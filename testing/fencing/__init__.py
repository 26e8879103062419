"""A campaign of stops: workers of one library are stopped past their leases, overtaken, and woken.

``python -m quire.testing.fencing --rounds 1000 --workers 3 --seed 1`` runs one and prints its account; it
exits 1 when a promise was broken, or too few of the woken tried to break it. A round counts when a worker was
stopped (SIGSTOP) with jobs in hand, at least one of them was taken over while it was stopped, and it was then
woken: whatever it was about to write must be refused, and after most rounds something was (``tally``). Stops
come at drawn moments by the clock, and at the points of ``worker``, where the words are ready and not yet
said. All the while the wall clock of the workers is set an hour on, or back.

A worker stopped within a commit holds LMDB's lock on writing: nobody writes until it is woken, so nobody can
take over. Such stops are counted as standstills; they are no rounds.

``fences.Fences`` reads the owners of all jobs off any log, and every word that none of them could say;
``appends.duels`` plays thousands of rounds without processes (``--appends N``).
"""
