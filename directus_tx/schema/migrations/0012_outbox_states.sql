-- Removing delivered messages must not pass over dead and held ones, which are kept; and counting those must not pass over delivered ones.

DROP INDEX directus_outbox_ended;
CREATE INDEX directus_outbox_delivered ON directus_outbox (ended_on) WHERE state = 'delivered';
CREATE INDEX directus_outbox_kept ON directus_outbox (state, id) WHERE state IN ('dead', 'held');
