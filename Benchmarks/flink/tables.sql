-- The events as `millrace nexmark generate` writes them, read once, and their three kinds. Watermarks are four seconds behind, as
-- in nexmark/nexmark. {input} is a directory.
CREATE TABLE events (
  Person ROW<
    id BIGINT, name STRING, email_address STRING, credit_card STRING, city STRING, state STRING, date_time BIGINT,
    extra STRING>,
  Auction ROW<
    id BIGINT, item_name STRING, description STRING, initial_bid BIGINT, reserve BIGINT, date_time BIGINT,
    expires BIGINT, seller BIGINT, category BIGINT, extra STRING>,
  Bid ROW<
    auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, date_time BIGINT, extra STRING>,
  date_time AS
    CAST(TO_TIMESTAMP_LTZ(COALESCE(Bid.date_time, Auction.date_time, Person.date_time), 3) AS TIMESTAMP(3)),
  WATERMARK FOR date_time AS date_time - INTERVAL '4' SECOND
) WITH ('connector' = 'filesystem', 'path' = '{input}', 'format' = 'json');

CREATE VIEW person AS
SELECT Person.id, Person.name, Person.email_address, Person.credit_card, Person.city, Person.state, date_time, Person.extra
FROM events WHERE Person IS NOT NULL;

CREATE VIEW auction AS
SELECT
  Auction.id, Auction.item_name, Auction.description, Auction.initial_bid, Auction.reserve, date_time,
  CAST(TO_TIMESTAMP_LTZ(Auction.expires, 3) AS TIMESTAMP(3)) AS expires, Auction.seller, Auction.category, Auction.extra
FROM events WHERE Auction IS NOT NULL;

CREATE VIEW bid AS
SELECT Bid.auction, Bid.bidder, Bid.price, Bid.channel, Bid.url, date_time, Bid.extra
FROM events WHERE Bid IS NOT NULL;
