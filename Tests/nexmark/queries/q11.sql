-- User sessions: bids of a bidder with no more than 10 s from one to the next, and the end 10 s after the last.
SELECT bidder, count(*) AS bid_count, min(date_time) AS starttime, max(date_time) + 10000 AS endtime
FROM (
  SELECT bidder, date_time, count(*) FILTER (WHERE begins) OVER (PARTITION BY bidder ORDER BY date_time, n) AS session
  FROM (
    SELECT n, bidder, date_time,
      date_time - lag(date_time) OVER (PARTITION BY bidder ORDER BY date_time, n) > 10000 AS begins
    FROM bid
  ) gaps
) sessions
GROUP BY bidder, session
