-- The text of a JSON object without some of its members; other JSON as it is, NULL where the text is none. A view calls it of rows that its
-- reader may not see, where an error would tell of them: so it raises none. (A subtransaction cannot run in parallel: hence UNSAFE.)
CREATE FUNCTION directus_object_without(value text, names text[]) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL UNSAFE AS $$
BEGIN
    IF json_typeof(value::json) <> 'object' THEN
        RETURN value;
    END IF;
    RETURN coalesce(
        (SELECT json_object_agg(e.key, e.value) FROM json_each(value::json) AS e WHERE e.key <> ALL (names))::text, '[]'
    );
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END
$$;
