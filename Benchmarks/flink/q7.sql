SELECT b.auction, b.bidder, b.price, b.date_time, b.extra
FROM bid b
JOIN (
  SELECT MAX(price) AS price, window_end
  FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(date_time), INTERVAL '10' SECOND))
  GROUP BY window_start, window_end
) highest
ON b.price = highest.price
WHERE b.date_time BETWEEN highest.window_end - INTERVAL '10' SECOND AND highest.window_end
