"""Operations on whole columns of Arrow tables: strings, chunks, digests, connected components."""
