import subprocess
import sys

import pytest

from adapters import registry


class TestKind:
    @pytest.mark.parametrize("name", registry.kinds())
    def test_every_kind_has_all_its_parts(self, name):
        kind = registry.kind(name)
        assert kind.settings().model_json_schema()["type"] == "object"
        assert isinstance(kind.adapter().exclusive, bool | property)
        assert kind.resend_safe_s >= 0

    def test_a_kind_may_acknowledge_by_its_transport(self):
        kind = registry.kind("wecom_aibot")
        calls = kind.settings()(transport="callback", token="t", encoding_aes_key="k" * 43)
        assert kind.rule(calls) == "stored"
        assert kind.rule(kind.settings()(bot_id="b", secret="s")) == "spooled"
        assert registry.kind("wecom").rule(calls) == "stored"

    def test_no_kind_loads_ciphers_before_something_is_encrypted(self):
        code = (
            "import sys\n"
            "from adapters import registry\n"
            "for name in registry.kinds():\n"
            "    kind = registry.kind(name)\n"
            "    kind.settings(), kind.adapter(), kind.verify\n"
            "assert 'adapters.wecom.client' in sys.modules\n"
            "assert 'cryptography' not in sys.modules\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_a_kind_that_is_not_installed_is_named(self):
        with pytest.raises(registry.UnknownKind, match="fax"):
            registry.kind("fax")
