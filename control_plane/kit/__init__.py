"""What every room uses: clock, ids, back-off, paging, crypto, errors. Imports nothing of ours."""
