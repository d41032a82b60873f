-- Pass through: every bid, without channel and page.
SELECT auction, bidder, price, date_time, extra FROM bid
