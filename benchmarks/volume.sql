-- The same history for every tenant, and the same every time: three months from the beginning of
-- 2026 on.
CREATE FUNCTION pg_temp.bench_uuid(p_at timestamptz, p_salt text) RETURNS uuid
LANGUAGE sql IMMUTABLE AS
$$
    SELECT overlay(overlay(m PLACING '8' FROM 17) PLACING lpad(
        to_hex((extract(epoch FROM p_at) * 1000)::bigint), 12, '0') || '7' FROM 1)::uuid
    FROM md5(p_salt) AS m
$$;

CREATE FUNCTION pg_temp.bench_text(p_n integer) RETURNS text LANGUAGE sql IMMUTABLE AS
$$
    SELECT concat_ws(' ',
        (ARRAY['你们几点开门', '我的订单还没有到', '可以退货吗', '谢谢你的帮助', '请问有现货吗',
               'Are you open on Sunday?', 'My order has not arrived yet', 'Can I return this?',
               'Thank you for your help', 'Is this in stock?'])[1 + abs(hashint4(p_n)) % 10],
        (ARRAY['尺码偏大', '颜色很好看', '快递太慢了', '发票怎么开', '优惠券用不了',
               'the size is too large', 'the colour is nice', 'delivery is slow',
               'where is the invoice', 'the coupon fails'])[1 + abs(hashint4(p_n + 7)) % 10],
        '单号 ' || 100000 + p_n,
        CASE WHEN p_n % 500 = 0 THEN '橄榄油 olive lamp' END)
$$;

CREATE FUNCTION pg_temp.bench_fill(p_tenant uuid, p_instance uuid, p_channel uuid, p_place integer,
    p_messages integer, p_people integer) RETURNS void LANGUAGE plpgsql AS
$$
DECLARE
    began CONSTANT timestamptz := '2026-01-01T00:00:00Z';
    step CONSTANT interval := interval '90 days' / p_messages;
BEGIN
    INSERT INTO contacts (id, tenant_id, channel_id, platform_id, name, created_at, seen_at)
    SELECT pg_temp.bench_uuid(began, p_place || 'c' || n), p_tenant, p_channel, 'v' || n, 'Lin',
           began, began
    FROM generate_series(0, p_people - 1) AS n;
    INSERT INTO conversations (id, tenant_id, instance_id, channel_id, contact_id, key_type, key,
        owner, last_number, heard_number, turned_number, last_message_at, created_at)
    SELECT pg_temp.bench_uuid(began, p_place || 'v' || n), p_tenant, p_instance, p_channel,
           pg_temp.bench_uuid(began, p_place || 'c' || n), 'direct', 'v' || n, 'waiting',
           p_messages / p_people, p_messages / p_people, p_messages / p_people,
           began + interval '90 days', began
    FROM generate_series(0, p_people - 1) AS n;
    INSERT INTO messages (id, tenant_id, conversation_id, number, sender_kind, sender_id,
        sender_name, segments, occurred_at, created_at)
    SELECT pg_temp.bench_uuid(began + n * step, p_place || 'm' || n), p_tenant,
           pg_temp.bench_uuid(began, p_place || 'v' || n % p_people), 1 + n / p_people, 'contact',
           pg_temp.bench_uuid(began, p_place || 'c' || n % p_people), 'Lin',
           jsonb_build_array(jsonb_build_object('type', 'text', 'text', pg_temp.bench_text(n))),
           began + n * step, began + n * step
    FROM generate_series(0, p_messages - 1) AS n;
END
$$;

-- What the messages of all tenants leave in the other tables.
CREATE FUNCTION pg_temp.bench_follow() RETURNS void LANGUAGE plpgsql AS
$$
BEGIN
    INSERT INTO received (channel_id, event_id, tenant_id, sha256, received_at)
    SELECT c.channel_id, m.id, m.tenant_id, decode(repeat(md5(m.id::text), 2), 'hex'), m.created_at
    FROM messages AS m JOIN conversations AS c ON c.id = m.conversation_id;
    INSERT INTO stream (id, tenant_id, epoch, seq, type, data, created_at)
    SELECT m.id, m.tenant_id, h.epoch,
           h.seq + row_number() OVER (PARTITION BY m.tenant_id ORDER BY m.id), 'message.created',
           jsonb_build_object('conversation_id', m.conversation_id, 'message_id', m.id,
               'number', m.number, 'sender', '{"kind": "contact", "name": "Lin"}'::jsonb),
           m.created_at
    FROM messages AS m JOIN stream_heads AS h USING (tenant_id);
    UPDATE stream_heads AS h SET seq = s.seq
    FROM (SELECT tenant_id, max(seq) AS seq FROM stream GROUP BY 1) AS s
    WHERE s.tenant_id = h.tenant_id;
    INSERT INTO message_grams (id, tenant_id, conversation_id, channel_id, sender_id, grams)
    SELECT m.id, m.tenant_id, m.conversation_id, c.channel_id, m.sender_id,
           search_grams(m.tenant_id, search_words(m.segments))
    FROM messages AS m JOIN conversations AS c ON c.id = m.conversation_id;
    INSERT INTO search_positions SELECT tenant_id, epoch, seq FROM stream_heads;
END
$$;
