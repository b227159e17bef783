"""What settings of other toolkits are called here: Ultralytics', detectron2's, torchvision's.

A test builds every setting that this table names.
"""

from __future__ import annotations

SIZE = "transforms.short_side and transforms.long_side"
ROOT = "dataset.root=FOLDER"
DATA = f"nothing to set: the data of {ROOT} have it"
TABLES = "nothing to set: predictions.json and predictions.csv are always written"

# word: the setting of train, and that of the other verbs where it differs (None: they have none)
WORDS: dict[str, str | tuple[str, str | None]] = {
    **dict.fromkeys(
        ("imgsz", "img_size", "image_size", "input_size", "imgs", "resize"), (SIZE, "short_side")
    ),
    **dict.fromkeys(
        ("conf", "conf_thres", "conf_thresh", "confidence", "score_threshold", "threshold"),
        ("model.score_thresh", "score_thresh"),
    ),
    **dict.fromkeys(
        ("iou", "iou_thres", "iou_thresh", "iou_threshold", "nms", "nms_thresh", "nms_threshold"),
        ("model.nms_iou", "nms_iou"),
    ),
    **dict.fromkeys(("max_det", "max_detections", "topk"), ("model.detections", "detections")),
    **dict.fromkeys(("data", "data_path", "data_dir", "dataset_dir"), (ROOT, ROOT)),
    **dict.fromkeys(
        ("weights", "ckpt", "checkpoint", "pretrained_weights"), ("weights", "checkpoint")
    ),
    "pretrained": ("backbone.weights=imagenet", None),
    **dict.fromkeys(("hflip", "fliplr", "flip", "horizontal_flip"), ("transforms.flip", None)),
    **dict.fromkeys(("vflip", "flipud"), ("transforms.vertical_flip", None)),
    **dict.fromkeys(("hsv_h", "hsv_s", "hsv_v", "color_jitter"), ("transforms.colour", None)),
    **dict.fromkeys(("epoch", "num_epochs", "n_epochs"), ("training.epochs", None)),
    **dict.fromkeys(("batch", "bs", "batchsize"), ("training.batch_size", "batch_size")),
    **dict.fromkeys(
        ("max_iter", "max_iters", "iters", "iterations", "num_steps"), ("training.max_steps", None)
    ),
    **dict.fromkeys(("early_stopping", "early_stop"), ("training.patience", None)),
    **dict.fromkeys(("momentum", "nesterov"), ("optimizer.momentum with optimizer=sgd", None)),
    **dict.fromkeys(("lr", "lr0", "base_lr", "learning_rate"), ("optimizer.lr", None)),
    "lr_steps": ("schedule.milestones with schedule=multistep", None),
    **dict.fromkeys(("lr_gamma", "gamma"), ("schedule.gamma with schedule=multistep", None)),
    "opt": ("optimizer", None),
    "weights_backbone": ("backbone.weights", None),
    "trainable_backbone_layers": ("backbone.frozen_stages", None),
    "print_freq": ("training.log_every", None),
    "lrf": ("schedule.final with schedule=cosine", None),
    "cos_lr": ("schedule=cosine", None),
    **dict.fromkeys(("wd", "decay"), ("optimizer.weight_decay", None)),
    **dict.fromkeys(
        ("warmup", "warmup_epochs", "warmup_iters", "warmup_steps"), ("schedule.warmup_steps", None)
    ),
    **dict.fromkeys(("scheduler", "lr_scheduler"), ("schedule", None)),
    **dict.fromkeys(("amp", "half", "fp16", "bf16"), ("training.precision", "precision")),
    **dict.fromkeys(("grad_clip", "clip_grad", "max_norm"), ("training.clip_norm", None)),
    **dict.fromkeys(("accumulation", "grad_accum", "nbs"), ("training.accumulate", None)),
    **dict.fromkeys(
        ("project", "name", "save_dir", "output_dir", "out_dir", "work_dir", "logdir", "log_dir"),
        ("run_dir", "output"),
    ),
    **dict.fromkeys(("num_classes", "nc", "n_classes"), (DATA, DATA)),
    "freeze": ("backbone.frozen_stages", None),
    **dict.fromkeys(("num_workers", "n_workers"), ("training.workers", "workers")),
    "save_period": ("training.checkpoint_every", None),
    **dict.fromkeys(
        ("val_interval", "eval_interval", "eval_period"), ("training.evaluate_every", None)
    ),
    **dict.fromkeys(("arch", "architecture", "net", "network"), ("model and backbone", None)),
    "save_txt": (TABLES, "yolo_text"),
    **dict.fromkeys(("save_json", "save"), TABLES),
    **dict.fromkeys(("img", "image", "images", "input", "path"), (ROOT, "source")),
    **dict.fromkeys(("agnostic", "class_agnostic"), ("model.nms_iou", "agnostic_nms")),
}
DETECTRON = {
    "MODEL.WEIGHTS": WORDS["weights"],
    "MODEL.DEVICE": "device",
    "MODEL.MASK_ON": ("model=mask_rcnn", None),
    "MODEL.META_ARCHITECTURE": ("model", None),
    "MODEL.BACKBONE.NAME": ("backbone", None),
    "MODEL.BACKBONE.FREEZE_AT": WORDS["freeze"],
    "MODEL.ROI_HEADS.NUM_CLASSES": DATA,
    "MODEL.RETINANET.NUM_CLASSES": DATA,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": WORDS["conf"],
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": WORDS["iou"],
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": ("model.roi_samples", None),
    "MODEL.ANCHOR_GENERATOR.SIZES": ("model.anchor_sizes", None),
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": ("model.anchor_ratios", None),
    "SOLVER.BASE_LR": WORDS["lr"],
    "SOLVER.MAX_ITER": WORDS["max_iter"],
    "SOLVER.IMS_PER_BATCH": WORDS["batch"],
    "SOLVER.STEPS": ("schedule.milestones", None),
    "SOLVER.GAMMA": ("schedule.gamma", None),
    "SOLVER.MOMENTUM": WORDS["momentum"],
    "SOLVER.WEIGHT_DECAY": ("optimizer.weight_decay", None),
    "SOLVER.WARMUP_ITERS": WORDS["warmup"],
    "SOLVER.CHECKPOINT_PERIOD": WORDS["save_period"],
    "SOLVER.AMP.ENABLED": WORDS["amp"],
    "INPUT.MIN_SIZE_TRAIN": ("transforms.short_side", "short_side"),
    "INPUT.MIN_SIZE_TEST": ("transforms.short_side", "short_side"),
    "INPUT.MAX_SIZE_TRAIN": ("transforms.long_side", None),
    "INPUT.MAX_SIZE_TEST": ("transforms.long_side", None),
    "INPUT.RANDOM_FLIP": WORDS["flip"],
    "DATASETS.TRAIN": (ROOT, ROOT),
    "DATASETS.TEST": (ROOT, ROOT),
    "DATALOADER.NUM_WORKERS": WORDS["num_workers"],
    "OUTPUT_DIR": WORDS["output_dir"],
    "SEED": ("seed", None),
    "TEST.DETECTIONS_PER_IMAGE": WORDS["max_det"],
    "TEST.EVAL_PERIOD": WORDS["eval_period"],
}


def here(verb: str, key: str) -> str | None:
    """What does here what a setting of another toolkit does there; None where that is not known.

    Args:
        verb: `train`, `evaluate` or `predict`.
        key: as it was written, its flag's dashes taken off.
    """
    if verb not in ("train", "evaluate", "predict"):
        return None
    own = DETECTRON.get(key) if key.isupper() else WORDS.get(key.lower())
    if own is None and key.isupper() and key.startswith(("MODEL.", "SOLVER.", "INPUT.")):
        own = {
            "MODEL": ("among the settings model.… and backbone.…", None),
            "SOLVER": ("among the settings optimizer.…, schedule.… and training.…", None),
            "INPUT": ("among the settings transforms.…", None),
        }[key.partition(".")[0]]
    if own is None or isinstance(own, str):
        return own
    return own[0] if verb == "train" else own[1]
