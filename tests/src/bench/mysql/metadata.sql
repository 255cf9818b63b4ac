-- As much of the metadata of an InnoDB ReplicaSet as MySQL Router asks for: without a cluster it does not
-- split. The instances are added by the benchmark.
DROP DATABASE IF EXISTS mysql_innodb_cluster_metadata;
CREATE DATABASE mysql_innodb_cluster_metadata;
USE mysql_innodb_cluster_metadata;
CREATE VIEW schema_version AS SELECT 2 AS major, 2 AS minor, 0 AS patch;
CREATE TABLE instances (instance_id INT PRIMARY KEY, cluster_id CHAR(36), address VARCHAR(100), mysql_server_uuid CHAR(36), instance_name VARCHAR(100), addresses JSON, attributes JSON, description TEXT, role VARCHAR(10));
CREATE TABLE clusters (cluster_id CHAR(36) PRIMARY KEY, cluster_name VARCHAR(40), router_options JSON);
INSERT INTO clusters VALUES ('11111111-1111-1111-1111-111111111111','c','{}');
CREATE TABLE routers (router_id INT AUTO_INCREMENT PRIMARY KEY, router_name VARCHAR(100), product_name VARCHAR(100), address VARCHAR(100), version VARCHAR(20), last_check_in TIMESTAMP NULL, attributes JSON, cluster_id CHAR(36), options JSON, clusterset_id CHAR(36));

CREATE VIEW v2_clusters AS SELECT 'ar' AS cluster_type, NULL AS primary_mode, cluster_id, cluster_name, router_options FROM clusters;
CREATE VIEW v2_ar_clusters AS SELECT 1 AS view_id, 'ar' AS cluster_type, 'pm' AS primary_mode, 'ro' AS async_topology_type, cluster_id, cluster_name, NULL AS attributes, NULL AS description, router_options FROM clusters;
CREATE VIEW v2_instances AS SELECT instance_id, cluster_id, instance_name AS label, mysql_server_uuid, address, address AS endpoint, NULL AS xendpoint, attributes FROM instances;
CREATE VIEW v2_ar_members AS SELECT 1 AS view_id, cluster_id, instance_id, instance_name AS label, mysql_server_uuid AS member_id, role AS member_role, NULL AS master_instance_id, NULL AS master_member_id FROM instances;
CREATE VIEW v2_this_instance AS SELECT i.cluster_id, i.instance_id, c.cluster_name, 'ar' AS cluster_type FROM instances i JOIN clusters c USING (cluster_id) WHERE i.mysql_server_uuid = (SELECT variable_value FROM performance_schema.global_variables WHERE variable_name = 'server_uuid');
CREATE VIEW v2_routers AS SELECT router_id, router_name, product_name, address, version, last_check_in, attributes, cluster_id, options, clusterset_id FROM routers;
CREATE VIEW v2_router_options AS SELECT router_id, options AS router_options FROM routers;
