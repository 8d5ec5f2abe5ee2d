--
-- PostgreSQL database dump
--

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: outbox_check_insert(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.outbox_check_insert() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  IF (EXISTS (
    SELECT FROM added WHERE added.type LIKE 'registration.%' AND NOT coalesce((
      SELECT added.payload = jsonb_build_object('seq', r.version)
    AND CASE substr(added.type, 14)
      WHEN 'registered' THEN r.version = 1 AND r.created_at = statement_timestamp()
        AND r.status IN ('pending', 'cancelled')
      WHEN 'imported' THEN r.version = 1
      WHEN 'activated' THEN r.status = 'active'
      WHEN 'profile_updated' THEN r.version > 1 AND r.status IN ('pending', 'verified', 'active')
      WHEN 'consents_recorded' THEN r.version > 1 AND r.status <> 'erased'
      ELSE r.version > 1 AND r.status = substr(added.type, 14) AND r.status IN ('verified', 'expired', 'cancelled', 'erased') END AND r.updated_at = statement_timestamp() AND NOT statement_timestamp() < clock_timestamp() - interval '1 hour'
      FROM public.registrations r WHERE r.id = added.registration_id), false))) THEN
    IF NOT pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE') THEN
      RAISE EXCEPTION 'a message about a registration can only be added by the statement that changes it'
        USING ERRCODE = 'check_violation', TABLE = 'outbox', CONSTRAINT = 'ck_outbox_insert';
    END IF;
  END IF;
  RETURN NULL;
END $$;

--
-- Name: registration_consents_check_insert(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.registration_consents_check_insert() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  IF (EXISTS (
    SELECT FROM added WHERE  NOT coalesce((
      SELECT added.seq = r.version
    AND (added.recorded_at = r.updated_at OR r.version = 1 AND added.recorded_at = r.created_at) AND r.updated_at = statement_timestamp() AND NOT statement_timestamp() < clock_timestamp() - interval '1 hour'
      FROM public.registrations r WHERE r.id = added.registration_id), false))) THEN
    IF NOT pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE') THEN
      RAISE EXCEPTION 'a consent can only be added by the statement that changes its registration'
        USING ERRCODE = 'check_violation', TABLE = 'registration_consents', CONSTRAINT = 'ck_registration_consents_insert';
    END IF;
  END IF;
  RETURN NULL;
END $$;

--
-- Name: registration_events_check_insert(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.registration_events_check_insert() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  IF (EXISTS (
    SELECT FROM added WHERE  NOT coalesce((
      SELECT added.seq = r.version AND added.occurred_at = r.updated_at
    AND CASE added.type
      WHEN 'registered' THEN r.version = 1 AND r.created_at = statement_timestamp()
        AND r.status IN ('pending', 'cancelled')
      WHEN 'imported' THEN r.version = 1
      WHEN 'activated' THEN r.status = 'active'
      WHEN 'profile_updated' THEN r.version > 1 AND r.status IN ('pending', 'verified', 'active')
      WHEN 'consents_recorded' THEN r.version > 1 AND r.status <> 'erased'
      ELSE r.version > 1 AND r.status = added.type AND r.status IN ('verified', 'expired', 'cancelled', 'erased') END AND r.updated_at = statement_timestamp() AND NOT statement_timestamp() < clock_timestamp() - interval '1 hour'
      FROM public.registrations r WHERE r.id = added.registration_id), false))) THEN
    IF NOT pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE') THEN
      RAISE EXCEPTION 'an event can only be added by the statement that changes its registration'
        USING ERRCODE = 'check_violation', TABLE = 'registration_events', CONSTRAINT = 'ck_registration_events_insert';
    END IF;
  END IF;
  RETURN NULL;
END $$;

--
-- Name: registrations_check_delete(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.registrations_check_delete() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  IF (OLD.status NOT IN ('expired', 'cancelled')) THEN
    IF NOT pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE') THEN
      RAISE EXCEPTION 'only a registration that is expired or cancelled can be deleted'
        USING ERRCODE = 'check_violation', TABLE = 'registrations', CONSTRAINT = 'ck_registrations_delete';
    END IF;
  END IF;
  RETURN OLD;
END $$;

--
-- Name: registrations_check_insert(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.registrations_check_insert() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  IF (NEW.closed_at <> statement_timestamp() OR NEW.status IN ('expired', 'erased') OR statement_timestamp() < clock_timestamp() - interval '1 hour'
    OR greatest(NEW.created_at, NEW.token_issued_at, NEW.verified_at, NEW.activated_at)
      > statement_timestamp() + interval '1 hour') THEN
    IF NOT pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE') THEN
      RAISE EXCEPTION 'a registration is not expired or erased from the beginning, and none of its times is in the future'
        USING ERRCODE = 'check_violation', TABLE = 'registrations', CONSTRAINT = 'ck_registrations_insert';
    END IF;
  END IF;
  RETURN NEW;
END $$;

--
-- Name: registrations_check_move(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.registrations_check_move() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
  IF NEW.status = 'erased'
     OR OLD.status = 'pending' AND NEW.status IN ('verified', 'expired', 'cancelled')
     OR OLD.status = 'verified' AND NEW.status IN ('active', 'expired', 'cancelled')
  THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'a registration that is % cannot become %', OLD.status, NEW.status
    USING ERRCODE = 'check_violation', TABLE = 'registrations', CONSTRAINT = 'ck_registrations_move';
END $$;

--
-- Name: registrations_check_update(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.registrations_check_update() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  IF (OLD.status = 'erased' OR NEW.version <> OLD.version
    AND (NEW.version <> OLD.version + 1 OR NEW.updated_at <> statement_timestamp() OR statement_timestamp() < clock_timestamp() - interval '1 hour') OR NEW.version = OLD.version AND (NEW.status, NEW.updated_at, NEW.profile, NEW.expires_at, NEW.close_reason,
    NEW.verified_at, NEW.activated_at, NEW.closed_at) IS DISTINCT FROM (OLD.status, OLD.updated_at, OLD.profile, OLD.expires_at, OLD.close_reason,
    OLD.verified_at, OLD.activated_at, OLD.closed_at) OR NEW.tokens_issued < OLD.tokens_issued OR NEW.token_issued_at IS DISTINCT FROM OLD.token_issued_at AND NEW.token_issued_at IS DISTINCT FROM statement_timestamp() OR NEW.verified_at IS DISTINCT FROM OLD.verified_at AND NEW.verified_at IS DISTINCT FROM statement_timestamp() OR NEW.activated_at IS DISTINCT FROM OLD.activated_at AND NEW.activated_at IS DISTINCT FROM statement_timestamp() OR NEW.closed_at IS DISTINCT FROM OLD.closed_at AND NEW.closed_at IS DISTINCT FROM statement_timestamp() OR NEW.verified_at IS DISTINCT FROM OLD.verified_at AND NOT (OLD.status IN ('pending') AND NEW.status IN ('verified')) OR NEW.activated_at IS DISTINCT FROM OLD.activated_at AND NOT (OLD.status IN ('verified') AND NEW.status IN ('active')) OR NEW.status = OLD.status AND (NEW.closed_at, NEW.close_reason) IS DISTINCT FROM (OLD.closed_at, OLD.close_reason) OR NEW.email IS DISTINCT FROM OLD.email AND (NEW.email IS NOT NULL OR NEW.status <> 'erased') OR NEW.email_key IS DISTINCT FROM OLD.email_key AND (NEW.email_key IS NOT NULL OR NEW.status <> 'erased') OR NEW.submit_key IS DISTINCT FROM OLD.submit_key AND (NEW.submit_key IS NOT NULL OR NEW.status <> 'erased') OR NEW.submit_digest IS DISTINCT FROM OLD.submit_digest AND (NEW.submit_digest IS NOT NULL OR NEW.status <> 'erased')) THEN
    IF NOT pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE') THEN
      RAISE EXCEPTION 'a change needs the next version and the time of the statement, and cannot replace an address or a key'
        USING ERRCODE = 'check_violation', TABLE = 'registrations', CONSTRAINT = 'ck_registrations_update';
    END IF;
  END IF;
  RETURN NEW;
END $$;

--
-- Name: registrations_count_pending(text, bigint); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.registrations_count_pending(mailbox text, most bigint) RETURNS bigint
    LANGUAGE plpgsql STRICT SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('registrations_count_pending'), (
    SELECT CAST(CAST('x' || left(encode(sha256(convert_to(last_value || mailbox, 'UTF8')), 'hex'), 8) AS bit(32)) AS int)
    FROM public.registrations_lock_key));
  RETURN (
    SELECT count(*) FROM (
      SELECT FROM public.registrations
      WHERE email_key = mailbox AND status = 'pending' AND expires_at > statement_timestamp() LIMIT most
    ) AS pending
  );
END $$;

--
-- Name: verification_tokens_check_update(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.verification_tokens_check_update() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  IF (NEW.attempts < OLD.attempts OR NEW.used_at IS DISTINCT FROM OLD.used_at AND NEW.used_at IS DISTINCT FROM statement_timestamp() OR NEW.replaced_at IS DISTINCT FROM OLD.replaced_at AND NEW.replaced_at IS DISTINCT FROM statement_timestamp() OR NEW.used_at IS DISTINCT FROM OLD.used_at AND OLD.used_at IS NOT NULL OR NEW.replaced_at IS DISTINCT FROM OLD.replaced_at AND OLD.replaced_at IS NOT NULL) THEN
    IF NOT pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE') THEN
      RAISE EXCEPTION 'the attempts of a token cannot decrease, and its times are those of the statement'
        USING ERRCODE = 'check_violation', TABLE = 'verification_tokens', CONSTRAINT = 'ck_verification_tokens_update';
    END IF;
  END IF;
  RETURN NEW;
END $$;

SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: outbox; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.outbox (
    event_id uuid NOT NULL,
    registration_id uuid NOT NULL,
    type text NOT NULL,
    payload jsonb DEFAULT '{}'::jsonb NOT NULL,
    available_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    last_error text,
    dead_at timestamp with time zone,
    CONSTRAINT ck_outbox_attempts CHECK ((attempts >= 0)),
    CONSTRAINT ck_outbox_last_error CHECK ((last_error ~ '^[A-Za-z0-9_.:-]{1,200}$'::text))
)
WITH (autovacuum_vacuum_scale_factor='0.01', autovacuum_vacuum_threshold='1000');
ALTER TABLE ONLY public.outbox ALTER COLUMN payload SET STATISTICS 0;
ALTER TABLE ONLY public.outbox ALTER COLUMN last_error SET STATISTICS 0;

--
-- Name: registration_consents; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.registration_consents (
    registration_id uuid NOT NULL,
    purpose text NOT NULL,
    id uuid NOT NULL,
    document_version text NOT NULL,
    granted boolean NOT NULL,
    source text NOT NULL,
    recorded_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    seq integer DEFAULT 1 NOT NULL,
    CONSTRAINT ck_registration_consents_document_version CHECK (((octet_length(document_version) >= 1) AND (octet_length(document_version) <= 64))),
    CONSTRAINT ck_registration_consents_purpose CHECK ((purpose ~ '^[a-z][a-z0-9_]{0,62}$'::text)),
    CONSTRAINT ck_registration_consents_seq CHECK ((seq >= 1)),
    CONSTRAINT ck_registration_consents_source CHECK (((octet_length(source) >= 1) AND (octet_length(source) <= 64)))
);
ALTER TABLE ONLY public.registration_consents ALTER COLUMN document_version SET STATISTICS 0;
ALTER TABLE ONLY public.registration_consents ALTER COLUMN source SET STATISTICS 0;

--
-- Name: registration_events; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.registration_events (
    registration_id uuid NOT NULL,
    seq integer NOT NULL,
    occurred_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    id uuid NOT NULL,
    type text NOT NULL,
    data jsonb DEFAULT '{}'::jsonb NOT NULL,
    actor text NOT NULL,
    correlation_id text,
    CONSTRAINT ck_registration_events_actor CHECK (((actor = ANY (ARRAY['user'::text, 'system'::text])) OR (actor ~ '^admin:[A-Za-z0-9_.-]{1,64}$'::text))),
    CONSTRAINT ck_registration_events_correlation_id CHECK ((correlation_id ~ '^[A-Za-z0-9_.:/-]{1,64}$'::text)),
    CONSTRAINT ck_registration_events_seq CHECK ((seq >= 1))
)
PARTITION BY RANGE (occurred_at);
ALTER TABLE ONLY public.registration_events ALTER COLUMN data SET STATISTICS 0;
ALTER TABLE ONLY public.registration_events ALTER COLUMN actor SET STATISTICS 0;
ALTER TABLE ONLY public.registration_events ALTER COLUMN correlation_id SET STATISTICS 0;

--
-- Name: registration_events_default; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.registration_events_default (
    registration_id uuid NOT NULL,
    seq integer NOT NULL,
    occurred_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    id uuid NOT NULL,
    type text NOT NULL,
    data jsonb DEFAULT '{}'::jsonb NOT NULL,
    actor text NOT NULL,
    correlation_id text,
    CONSTRAINT ck_registration_events_actor CHECK (((actor = ANY (ARRAY['user'::text, 'system'::text])) OR (actor ~ '^admin:[A-Za-z0-9_.-]{1,64}$'::text))),
    CONSTRAINT ck_registration_events_correlation_id CHECK ((correlation_id ~ '^[A-Za-z0-9_.:/-]{1,64}$'::text)),
    CONSTRAINT ck_registration_events_seq CHECK ((seq >= 1))
);
ALTER TABLE ONLY public.registration_events_default ALTER COLUMN data SET STATISTICS 0;
ALTER TABLE ONLY public.registration_events_default ALTER COLUMN actor SET STATISTICS 0;
ALTER TABLE ONLY public.registration_events_default ALTER COLUMN correlation_id SET STATISTICS 0;

--
-- Name: registration_schema_version; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.registration_schema_version (
    version_num character varying(32) NOT NULL
);

--
-- Name: registrations; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.registrations (
    id uuid NOT NULL,
    email text,
    email_key text COLLATE pg_catalog."C",
    email_key_rev smallint NOT NULL,
    status text NOT NULL,
    profile jsonb DEFAULT '{}'::jsonb NOT NULL,
    submit_key bytea,
    submit_digest bytea,
    version integer DEFAULT 1 NOT NULL,
    tokens_issued smallint DEFAULT 0 NOT NULL,
    token_issued_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    updated_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    expires_at timestamp with time zone,
    verified_at timestamp with time zone,
    activated_at timestamp with time zone,
    closed_at timestamp with time zone,
    close_reason text,
    CONSTRAINT ck_registrations_activated_at CHECK (((status <> 'active'::text) OR (activated_at IS NOT NULL))),
    CONSTRAINT ck_registrations_close_reason CHECK ((close_reason = ANY (ARRAY['ttl'::text, 'user'::text, 'admin'::text, 'superseded'::text, 'erasure'::text]))),
    CONSTRAINT ck_registrations_close_reason_when_closed CHECK (((closed_at IS NULL) = (close_reason IS NULL))),
    CONSTRAINT ck_registrations_closed_at CHECK (((status = ANY (ARRAY['expired'::text, 'cancelled'::text, 'erased'::text])) = (closed_at IS NOT NULL))),
    CONSTRAINT ck_registrations_counters CHECK (((version >= 1) AND (tokens_issued >= 0))),
    CONSTRAINT ck_registrations_email_key_length CHECK (((octet_length(email_key) >= 3) AND (octet_length(email_key) <= 320))),
    CONSTRAINT ck_registrations_email_key_lower CHECK ((email_key = lower(email_key))),
    CONSTRAINT ck_registrations_email_key_normalized CHECK ((email_key IS NFKC NORMALIZED)),
    CONSTRAINT ck_registrations_email_key_until_erased CHECK (((status = 'erased'::text) = (email_key IS NULL))),
    CONSTRAINT ck_registrations_email_length CHECK ((octet_length(email) <= 320)),
    CONSTRAINT ck_registrations_email_until_erased CHECK (((status = 'erased'::text) = (email IS NULL))),
    CONSTRAINT ck_registrations_open_expires CHECK (((status = ANY (ARRAY['pending'::text, 'verified'::text])) = (expires_at IS NOT NULL))),
    CONSTRAINT ck_registrations_profile CHECK (((jsonb_typeof(profile) = 'object'::text) AND (pg_column_size(profile) <= 65536))),
    CONSTRAINT ck_registrations_profile_until_erased CHECK (((status <> 'erased'::text) OR (profile = '{}'::jsonb))),
    CONSTRAINT ck_registrations_status CHECK ((status = ANY (ARRAY['pending'::text, 'verified'::text, 'active'::text, 'expired'::text, 'cancelled'::text, 'erased'::text]))),
    CONSTRAINT ck_registrations_submit_length CHECK (((octet_length(submit_key) = 32) AND (octet_length(submit_digest) = 32))),
    CONSTRAINT ck_registrations_submit_pair CHECK (((submit_key IS NULL) = (submit_digest IS NULL))),
    CONSTRAINT ck_registrations_verified_at CHECK (((status <> ALL (ARRAY['verified'::text, 'active'::text])) OR (verified_at IS NOT NULL)))
)
WITH (fillfactor='90');
ALTER TABLE ONLY public.registrations ALTER COLUMN email SET STATISTICS 0;
ALTER TABLE ONLY public.registrations ALTER COLUMN email_key SET STATISTICS 0;
ALTER TABLE ONLY public.registrations ALTER COLUMN profile SET STATISTICS 0;
ALTER TABLE ONLY public.registrations ALTER COLUMN submit_key SET STATISTICS 0;
ALTER TABLE ONLY public.registrations ALTER COLUMN submit_digest SET STATISTICS 0;

--
-- Name: registrations_lock_key; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.registrations_lock_key
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

--
-- Name: registrations_lock_key; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.registrations_lock_key OWNED BY public.registrations.id;

--
-- Name: verification_tokens; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.verification_tokens (
    id uuid NOT NULL,
    registration_id uuid NOT NULL,
    purpose text NOT NULL,
    secret_hash bytea NOT NULL,
    hash_key_id smallint NOT NULL,
    attempts smallint DEFAULT 0 NOT NULL,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    used_at timestamp with time zone,
    replaced_at timestamp with time zone,
    CONSTRAINT ck_verification_tokens_counters CHECK (((attempts >= 0) AND (hash_key_id >= 0))),
    CONSTRAINT ck_verification_tokens_expires_at CHECK ((expires_at > created_at)),
    CONSTRAINT ck_verification_tokens_purpose CHECK ((purpose = 'verify_email'::text)),
    CONSTRAINT ck_verification_tokens_secret_hash CHECK ((octet_length(secret_hash) = 32))
);
ALTER TABLE ONLY public.verification_tokens ALTER COLUMN secret_hash SET STATISTICS 0;

--
-- Name: registration_events_default; Type: TABLE ATTACH; Schema: public; Owner: -
--

ALTER TABLE ONLY public.registration_events ATTACH PARTITION public.registration_events_default DEFAULT;

--
-- Name: outbox pk_outbox; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT pk_outbox PRIMARY KEY (event_id);

--
-- Name: registration_consents pk_registration_consents; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.registration_consents
    ADD CONSTRAINT pk_registration_consents PRIMARY KEY (registration_id, purpose, id);

--
-- Name: registration_events pk_registration_events; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.registration_events
    ADD CONSTRAINT pk_registration_events PRIMARY KEY (registration_id, seq, occurred_at);

--
-- Name: registrations pk_registrations; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.registrations
    ADD CONSTRAINT pk_registrations PRIMARY KEY (id);

--
-- Name: verification_tokens pk_verification_tokens; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.verification_tokens
    ADD CONSTRAINT pk_verification_tokens PRIMARY KEY (id);

--
-- Name: registration_events_default registration_events_default_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.registration_events_default
    ADD CONSTRAINT registration_events_default_pkey PRIMARY KEY (registration_id, seq, occurred_at);

--
-- Name: registration_schema_version registration_schema_version_pkc; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.registration_schema_version
    ADD CONSTRAINT registration_schema_version_pkc PRIMARY KEY (version_num);

--
-- Name: verification_tokens uq_verification_tokens_secret_hash; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.verification_tokens
    ADD CONSTRAINT uq_verification_tokens_secret_hash UNIQUE (secret_hash);

--
-- Name: ix_outbox_available_at_event_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_outbox_available_at_event_id ON public.outbox USING btree (available_at, event_id) WHERE (dead_at IS NULL);

--
-- Name: ix_outbox_dead_at_event_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_outbox_dead_at_event_id ON public.outbox USING btree (dead_at, event_id) WHERE (dead_at IS NOT NULL);

--
-- Name: ix_registration_events_occurred_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_registration_events_occurred_at ON ONLY public.registration_events USING brin (occurred_at);

--
-- Name: ix_registrations_closed; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_registrations_closed ON public.registrations USING btree (closed_at) WHERE (status = ANY (ARRAY['expired'::text, 'cancelled'::text]));

--
-- Name: ix_registrations_email_closed; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_registrations_email_closed ON public.registrations USING btree (email_key) WHERE (status = ANY (ARRAY['expired'::text, 'cancelled'::text]));

--
-- Name: ix_registrations_email_pending_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_registrations_email_pending_id ON public.registrations USING btree (email_key, id) WHERE (status = 'pending'::text);

--
-- Name: ix_registrations_open_expires; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_registrations_open_expires ON public.registrations USING btree (expires_at) WHERE (status = ANY (ARRAY['pending'::text, 'verified'::text]));

--
-- Name: ix_verification_tokens_expires_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_verification_tokens_expires_at ON public.verification_tokens USING btree (expires_at);

--
-- Name: ix_verification_tokens_registration_id_purpose; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_verification_tokens_registration_id_purpose ON public.verification_tokens USING btree (registration_id, purpose);

--
-- Name: registration_events_default_occurred_at_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX registration_events_default_occurred_at_idx ON public.registration_events_default USING brin (occurred_at);

--
-- Name: uq_registrations_email_proven; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX uq_registrations_email_proven ON public.registrations USING btree (email_key) WHERE (status = ANY (ARRAY['verified'::text, 'active'::text]));

--
-- Name: uq_registrations_submit_key; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX uq_registrations_submit_key ON public.registrations USING btree (submit_key) WHERE (submit_key IS NOT NULL);

--
-- Name: registration_events_default_occurred_at_idx; Type: INDEX ATTACH; Schema: public; Owner: -
--

ALTER INDEX public.ix_registration_events_occurred_at ATTACH PARTITION public.registration_events_default_occurred_at_idx;

--
-- Name: registration_events_default_pkey; Type: INDEX ATTACH; Schema: public; Owner: -
--

ALTER INDEX public.pk_registration_events ATTACH PARTITION public.registration_events_default_pkey;

--
-- Name: outbox outbox_check_insert; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER outbox_check_insert AFTER INSERT ON public.outbox REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION public.outbox_check_insert();

--
-- Name: registration_consents registration_consents_check_insert; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER registration_consents_check_insert AFTER INSERT ON public.registration_consents REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION public.registration_consents_check_insert();

--
-- Name: registration_events registration_events_check_insert; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER registration_events_check_insert AFTER INSERT ON public.registration_events REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION public.registration_events_check_insert();

--
-- Name: registrations registrations_check_delete; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER registrations_check_delete BEFORE DELETE ON public.registrations FOR EACH ROW EXECUTE FUNCTION public.registrations_check_delete();

--
-- Name: registrations registrations_check_insert; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER registrations_check_insert BEFORE INSERT ON public.registrations FOR EACH ROW EXECUTE FUNCTION public.registrations_check_insert();

--
-- Name: registrations registrations_check_move; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER registrations_check_move BEFORE UPDATE OF status ON public.registrations FOR EACH ROW WHEN ((old.status IS DISTINCT FROM new.status)) EXECUTE FUNCTION public.registrations_check_move();

--
-- Name: registrations registrations_check_update; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER registrations_check_update BEFORE UPDATE ON public.registrations FOR EACH ROW EXECUTE FUNCTION public.registrations_check_update();

--
-- Name: verification_tokens verification_tokens_check_update; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER verification_tokens_check_update BEFORE UPDATE ON public.verification_tokens FOR EACH ROW EXECUTE FUNCTION public.verification_tokens_check_update();

--
-- Name: registration_consents fk_registration_consents_registration_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.registration_consents
    ADD CONSTRAINT fk_registration_consents_registration_id FOREIGN KEY (registration_id) REFERENCES public.registrations(id) ON DELETE CASCADE;

--
-- Name: verification_tokens fk_verification_tokens_registration_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.verification_tokens
    ADD CONSTRAINT fk_verification_tokens_registration_id FOREIGN KEY (registration_id) REFERENCES public.registrations(id) ON DELETE CASCADE;

--
-- PostgreSQL database dump complete
--
