"""What paynode knows about money and payments: pure, stdlib only, no clock and no I/O."""
