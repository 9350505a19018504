"""DingTalk (钉钉): the robot of an application that a company built for itself."""
