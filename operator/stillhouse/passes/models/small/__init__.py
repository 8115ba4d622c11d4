"""Small networks of other kinds than a transformer: convolutions, recurrent ones, bags of tokens."""
