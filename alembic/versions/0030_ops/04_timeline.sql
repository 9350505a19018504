-- Operators see what happened to a bot's agent, and nothing of what its tenant configured.
CREATE POLICY operator ON timeline FOR SELECT TO botyard_app
    USING ((SELECT speaks_as_operator()) AND (type LIKE 'instance.%' OR type LIKE 'agent.%'));
