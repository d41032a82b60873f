-- Top 10 bids of each auction by price; of equal ones the first to come.
SELECT auction, bidder, price, channel, url, date_time, extra, rank_number
FROM (SELECT *, row_number() OVER (PARTITION BY auction ORDER BY price DESC, n) AS rank_number FROM bid) ranked
WHERE rank_number <= 10
