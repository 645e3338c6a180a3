"""The client of internal publishers, against a real Redis and a stand-in for paynode behind it."""
