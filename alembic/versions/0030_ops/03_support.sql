-- Operators see which tenants they themselves may look into.
CREATE POLICY own ON support_grants FOR SELECT TO botyard_app
    USING ((SELECT speaks_as_operator()) AND operator_id = (SELECT current_identity()));
