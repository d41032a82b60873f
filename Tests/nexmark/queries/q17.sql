-- Auction statistics: bids and prices of each auction and day (UTC); the average without its fraction.
SELECT
  auction,
  to_char(to_timestamp(date_time / 1000) AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day,
  count(*) AS total_bids,
  count(*) FILTER (WHERE price < 10000) AS rank1_bids,
  count(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bids,
  count(*) FILTER (WHERE price >= 1000000) AS rank3_bids,
  min(price) AS min_price,
  max(price) AS max_price,
  div(sum(price), count(*))::bigint AS avg_price,
  sum(price)::bigint AS sum_price
FROM bid
GROUP BY auction, day
