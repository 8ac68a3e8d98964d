-- Run once, when the cluster is made; the database `prefect` is made by the image itself.
CREATE DATABASE mlflow;
CREATE DATABASE mlflow_users;
