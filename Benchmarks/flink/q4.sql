SELECT category, AVG(final) AS final
FROM (
  SELECT a.category, MAX(b.price) AS final
  FROM auction a JOIN bid b ON b.auction = a.id AND b.date_time BETWEEN a.date_time AND a.expires
  GROUP BY a.id, a.category
)
GROUP BY category
