/** The parts of Element Plus that the dashboard uses, each with its own styles. */

import 'element-plus/es/components/button/style/css'
import 'element-plus/es/components/dialog/style/css'
import 'element-plus/es/components/input/style/css'
import 'element-plus/es/components/message/style/css'

export { ElButton } from 'element-plus/es/components/button/index'
export { ElDialog } from 'element-plus/es/components/dialog/index'
export { ElInput } from 'element-plus/es/components/input/index'
export { ElMessage } from 'element-plus/es/components/message/index'
