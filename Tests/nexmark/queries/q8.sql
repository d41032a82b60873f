-- New users: persons who opened an auction in the window of 10 s in which they registered.
SELECT p.id, p.name, p.stime
FROM (SELECT DISTINCT id, name, date_time - date_time % 10000 AS stime FROM person) p
JOIN (SELECT DISTINCT seller, date_time - date_time % 10000 AS stime FROM auction) a
ON p.id = a.seller AND p.stime = a.stime
