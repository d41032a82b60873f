-- Highest bid: bids with the highest price of a window of 10 s, within it or at the very moment at which it ends.
SELECT b.auction, b.bidder, b.price, b.date_time, b.extra
FROM bid b JOIN (
  SELECT date_time - date_time % 10000 + 10000 AS window_end, max(price) AS price FROM bid GROUP BY window_end
) highest
ON b.price = highest.price AND b.date_time BETWEEN highest.window_end - 10000 AND highest.window_end
