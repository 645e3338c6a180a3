"""Evidence about the ledger that stands outside the database: anchors, exports, and the keys that sign both."""
