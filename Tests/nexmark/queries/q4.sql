-- Average of the winning prices of each category, without its fraction, as an average of whole numbers is in Flink.
SELECT category, div(sum(final), count(*))::bigint AS final
FROM (
  SELECT a.category, max(b.price) AS final
  FROM auction a JOIN bid b ON a.id = b.auction AND b.date_time BETWEEN a.date_time AND a.expires
  GROUP BY a.id, a.category
) winning
GROUP BY category
