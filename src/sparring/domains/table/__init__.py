"""Tables: rows of columns of several types. Read, described and coded; no game is played on them yet, so no verb knows them."""
