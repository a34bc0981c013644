// Stands in for OpenCV's all-embracing header while FFCV is built: see ../opencv4.pc.
#pragma once
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>
