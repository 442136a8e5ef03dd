BEGIN TRANSACTION;
CREATE TABLE breakers (
    name TEXT PRIMARY KEY, version INTEGER NOT NULL, schema INTEGER NOT NULL, row TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE checks (only INTEGER PRIMARY KEY, at REAL NOT NULL);
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT, received_at REAL NOT NULL, verdict TEXT NOT NULL, run_id TEXT NOT NULL,
    row TEXT NOT NULL
);
CREATE TABLE requests (
    idempotency_key TEXT PRIMARY KEY, version INTEGER NOT NULL, schema INTEGER NOT NULL, row TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO "requests" VALUES('c0e6f56f631588e0756da0610cb093dccf00619e096537b2d3771491a35c6093',1,1,'{"idempotency_key":"c0e6f56f631588e0756da0610cb093dccf00619e096537b2d3771491a35c6093","body_hash":"hash-2","state":"started","factory":{"key":"/subscriptions/11111111-1111-1111-1111-111111111111/resourcegroups/rg-demo/providers/microsoft.datafactory/factories/adf-demo","arm_id":"/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/rg-demo/providers/Microsoft.DataFactory/factories/adf-demo"},"pipeline":"copy_orders","received_at":"2026-03-01T12:00:00Z","lease_until":"2026-03-01T12:01:00Z","run_id":"0a1b2c3d-0000-4000-8000-000000000001","answer":"{\"run\": \"ü\"}","started_pipeline":"copy_orders__bridge","version":""}');
INSERT INTO "requests" VALUES('key/2',1,1,'{"idempotency_key":"key/2","body_hash":"hash-3","state":"starting","factory":{"key":"/subscriptions/11111111-1111-1111-1111-111111111111/resourcegroups/rg-demo/providers/microsoft.datafactory/factories/adf-demo","arm_id":"/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/rg-demo/providers/Microsoft.DataFactory/factories/adf-demo"},"pipeline":"copy_orders","received_at":"2026-03-01T12:00:00Z","lease_until":"2026-03-01T12:01:00Z","run_id":null,"answer":null,"started_pipeline":"copy_orders","version":""}');
CREATE TABLE runs (
    factory TEXT NOT NULL, run_id TEXT NOT NULL, version INTEGER NOT NULL, schema INTEGER NOT NULL, row TEXT NOT NULL,
    PRIMARY KEY (factory, run_id)
) WITHOUT ROWID;
INSERT INTO "runs" VALUES('/subscriptions/11111111-1111-1111-1111-111111111111/resourcegroups/rg-demo/providers/microsoft.datafactory/factories/adf-demo','match~b517509fe5f5~c0e6f56f631588e0756da0610cb093dccf00619e096537b2d3771491a35c6093',1,1,'{"key":{"factory":{"key":"/subscriptions/11111111-1111-1111-1111-111111111111/resourcegroups/rg-demo/providers/microsoft.datafactory/factories/adf-demo","arm_id":"/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/rg-demo/providers/Microsoft.DataFactory/factories/adf-demo"},"run_id":"match~b517509fe5f5~c0e6f56f631588e0756da0610cb093dccf00619e096537b2d3771491a35c6093"},"pipeline":"größe 1","status":"Failed","read_at":"2026-03-01T12:00:00Z","reads":3,"hint":"Failed","hint_at":"2026-03-01T12:00:00Z","run_start":"2026-03-01T11:59:00Z","run_end":"2026-03-01T12:00:00Z","message":"no ü","failed_activity":{"name":"Copy","type":"Copy","error_code":null,"message":"no"},"created_at":"2026-03-01T11:59:00Z","watched_run_id":"found-1","claimed_run_id":"found-2","match":{"pipeline":"Größe 1","since":"2026-03-01T11:59:00Z","statuses":["Succeeded","Failed"]},"version":""}');
CREATE TABLE sweeps (
    factory TEXT PRIMARY KEY, version INTEGER NOT NULL, schema INTEGER NOT NULL, row TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO "sweeps" VALUES('/subscriptions/11111111-1111-1111-1111-111111111111/resourcegroups/rg-demo/providers/microsoft.datafactory/factories/adf-demo',1,1,'{"factory":{"key":"/subscriptions/11111111-1111-1111-1111-111111111111/resourcegroups/rg-demo/providers/microsoft.datafactory/factories/adf-demo","arm_id":"/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/rg-demo/providers/Microsoft.DataFactory/factories/adf-demo"},"covered_until":"2026-03-01T11:59:00Z","next_at":"2026-03-01T12:00:00Z","ahead":"-PT2S","version":""}');
CREATE TABLE waits (
    token TEXT PRIMARY KEY, factory TEXT NOT NULL, run_id TEXT NOT NULL, target TEXT NOT NULL, state TEXT NOT NULL,
    due_at REAL, registered_at REAL NOT NULL, version INTEGER NOT NULL, schema INTEGER NOT NULL, row TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO "waits" VALUES('c0e6f56f631588e0756da0610cb093dccf00619e096537b2d3771491a35c6093','/subscriptions/11111111-1111-1111-1111-111111111111/resourcegroups/rg-demo/providers/microsoft.datafactory/factories/adf-demo','match~b517509fe5f5~c0e6f56f631588e0756da0610cb093dccf00619e096537b2d3771491a35c6093','prod','due',1772366405.0,1772366400.0,1,1,'{"token":"c0e6f56f631588e0756da0610cb093dccf00619e096537b2d3771491a35c6093","key":{"factory":{"key":"/subscriptions/11111111-1111-1111-1111-111111111111/resourcegroups/rg-demo/providers/microsoft.datafactory/factories/adf-demo","arm_id":"/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/rg-demo/providers/Microsoft.DataFactory/factories/adf-demo"},"run_id":"match~b517509fe5f5~c0e6f56f631588e0756da0610cb093dccf00619e096537b2d3771491a35c6093"},"task":{"target":"prod","dag_id":"orders","run_id":"scheduled__2026-03-01T00:00:00+00:00","task_id":"matching","map_index":-1,"try_number":1,"task_instance_id":"ti-m","nonce":"m"},"mode":"resume","deadline":"2026-03-01T18:00:00Z","on_abandon":"cancel","registered_at":"2026-03-01T12:00:00Z","state":"due","due_at":"2026-03-01T12:00:05Z","attempts":1,"failures":2,"seen_running_at":"2026-03-01T12:00:00Z","seen_waiting_at":"2026-03-01T12:00:00Z","missing_since":"2026-03-01T12:00:00Z","sent_at":"2026-03-01T12:00:00Z","abandoned_at":"2026-03-01T12:00:00Z","cancels":true,"match":{"pipeline":"Größe 1","since":"2026-03-01T11:59:00Z","statuses":["Succeeded","Failed"]},"completion":{"token":"c0e6f56f631588e0756da0610cb093dccf00619e096537b2d3771491a35c6093","status":"Failed","key":{"factory":{"key":"/subscriptions/11111111-1111-1111-1111-111111111111/resourcegroups/rg-demo/providers/microsoft.datafactory/factories/adf-demo","arm_id":"/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/rg-demo/providers/Microsoft.DataFactory/factories/adf-demo"},"run_id":"match~b517509fe5f5~c0e6f56f631588e0756da0610cb093dccf00619e096537b2d3771491a35c6093"},"pipeline":"größe 1","run_start":"2026-03-01T11:59:00Z","run_end":"2026-03-01T12:00:00Z","message":"no ü","failed_activity":{"name":"Copy","type":"Copy","error_code":null,"message":"no"},"watched_run_id":"found-1"},"decided_at":"2026-03-01T12:00:00Z","timeline":[{"at":"2026-03-01T12:00:00Z","what":"registered","detail":"waits"}],"news":0,"version":""}');
CREATE INDEX runs_by_id ON runs (run_id);
CREATE INDEX waits_by_run ON waits (factory, run_id);
CREATE INDEX waits_by_due ON waits (target, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX waits_by_age ON waits (registered_at, token);
CREATE INDEX waits_open ON waits (factory, registered_at) WHERE state = 'open';
DELETE FROM "sqlite_sequence";
COMMIT;
