-- Trust, codecs, our address as the trunk sees it, and where its media goes.

ALTER TABLE sip_trunks ADD COLUMN trusted INTEGER;
ALTER TABLE sip_trunks ADD COLUMN remote_party_id INTEGER;
ALTER TABLE sip_trunks ADD COLUMN codec TEXT;
ALTER TABLE sip_trunks ADD COLUMN external_ip TEXT;
ALTER TABLE sip_trunks ADD COLUMN media_mode TEXT;
