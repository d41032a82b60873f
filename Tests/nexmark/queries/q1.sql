-- Currency conversion: prices in euros, three decimals, exact.
SELECT auction, bidder, 0.908 * price AS price, date_time, extra FROM bid
