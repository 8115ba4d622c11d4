"""Changed copies of training rows: of texts (`texts`, `synonyms`), of images (`images`); `rows` is the pass."""
