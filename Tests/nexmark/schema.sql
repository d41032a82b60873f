-- The three kinds of events as tables. `n` counts the lines of the input: which event came first.
-- Times are milliseconds since the epoch, as the events have them.

DROP TABLE IF EXISTS person, auction, bid;

CREATE UNLOGGED TABLE person (
  n bigint, id bigint, name text, email_address text, credit_card text, city text, state text, date_time bigint,
  extra text);

CREATE UNLOGGED TABLE auction (
  n bigint, id bigint, item_name text, description text, initial_bid bigint, reserve bigint, date_time bigint,
  expires bigint, seller bigint, category bigint, extra text);

CREATE UNLOGGED TABLE bid (
  n bigint, auction bigint, bidder bigint, price bigint, channel text, url text, date_time bigint, extra text);
