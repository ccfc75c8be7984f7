-- What a trunk of the files could say and one of the database could not: where else it is, what passes a
-- call on, whether it is asked if it is there, whose challenges are answered.

ALTER TABLE sip_trunks ADD COLUMN backup_dest TEXT;
ALTER TABLE sip_trunks ADD COLUMN failover_codes TEXT;
ALTER TABLE sip_trunks ADD COLUMN setup_timeout_ms INTEGER;
ALTER TABLE sip_trunks ADD COLUMN realm TEXT;
ALTER TABLE sip_trunks ADD COLUMN health_check_enabled INTEGER;
ALTER TABLE sip_trunks ADD COLUMN health_check_interval_secs INTEGER;
ALTER TABLE sip_trunks ADD COLUMN health_check_timeout_ms INTEGER;
ALTER TABLE sip_trunks ADD COLUMN health_check_probe_count INTEGER;
ALTER TABLE sip_trunks ADD COLUMN health_check_recovery_count INTEGER;
