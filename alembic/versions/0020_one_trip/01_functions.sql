-- Undoes the statement that asks it: what it has found is another path's affair.
CREATE FUNCTION refuse() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'refused' USING ERRCODE = 'BY001';
END $$;
