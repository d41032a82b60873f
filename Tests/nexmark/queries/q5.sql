-- Hot items: the auctions with the most bids in each window of 10 s, one of which begins every 2 s; ties are all kept.
SELECT auction, num
FROM (
  SELECT auction, num, max(num) OVER (PARTITION BY window_start) AS most
  FROM (
    SELECT auction, date_time - date_time % 2000 - 2000 * back AS window_start, count(*) AS num
    FROM bid CROSS JOIN generate_series(0, 4) AS back
    GROUP BY auction, window_start
  ) counts
) ranked
WHERE num = most
