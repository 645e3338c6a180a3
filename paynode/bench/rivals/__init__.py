"""What somebody would use instead of paynode, as well as one would write it in an afternoon; each books real credits.

None of them verifies a signature, chains a ledger, fences an owner, knows a poison message or is fair to anybody: what
paynode gives for its part of the difference is there to be read in what it costs.
"""
