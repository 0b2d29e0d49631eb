"""Files of LOBSTER: the messages of a venue's book, and its best levels after each of them, as the exchange understands them."""
